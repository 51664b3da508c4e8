// Package delta codes the elements of a checkpoint as their differences from
// those of neighbouring checkpoints of the same training run.
package delta
