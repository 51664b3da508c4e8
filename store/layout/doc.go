// Package layout recognises, by content alone, what the bytes of a file are:
// which ranges hold elements of which type. It never decides more than how well
// a file compresses; a wrong guess costs ratio, never a byte.
//
// Detect looks at a file's first bytes and returns a Layout, or nil for a file
// that is better stored as it is. A Layout answers for any offset which Region
// holds it. Each format has a file of its own (torch's are torch*.go and pickle.go);
// numbers.go is for data of no known format.
package layout
