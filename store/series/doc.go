// Package series finds the checkpoints that belong together, and says in which
// form each should be kept: full, or as its differences from others.
//
// Neighbouring checkpoints of one run are nearly the same, and package delta makes
// one of them small given another, its base. This package chooses the bases. It
// reads no more than the indexes of containers and some samples, changes nothing,
// and knows neither a store nor a mount: who uses it carries out what it says.
//
// # Where to start
//
//	grouper := series.NewGrouper(sampler, logger) // once: it remembers samples
//	…
//	families, err := grouper.Group(ctx, members)
//	for _, f := range families {
//		for _, action := range series.Plan(f, series.Options{}) {
//			// keep action.Member as differences from action.Bases, as
//			// series.Depend says which elements are where
//		}
//	}
//
// A [Member] is what whoever walks the directory knows of a sealed container. A
// [Grouper] finds a [Family] for each (group.go), and
// [Plan] is a pure function of a family (plan.go). A [Sampler] is all that the
// Grouper needs of whoever can read logical bytes.
//
// # Which files are of one family
//
// Candidates are files of one [Fingerprint]: the same format, and tensors of the
// same names and shapes. That is not enough: every rank of a model, its moving
// average, and every run from one configuration have the same. So:
//
//   - Files whose paths differ only in the number of the step ([ParseStep]) are
//     tried first: they are a strand.
//   - Neighbours on a strand must gain from one another, in a few samples coded
//     with package delta. Where they do not, the strand is cut, whatever the paths
//     say.
//   - A strand goes on with another if all steps of that are later, and the ends
//     fit: a run that was resumed in another directory. A run that went back to an
//     older step, so that steps overlap, is a family of its own.
//   - Files without a step follow one another by time, each after the file that it
//     gains most from.
//   - What only repeats a member is a [Leaf] of it: a copied directory, "best",
//     "last", a bf16 export of fp32 weights. Nothing depends on a leaf, so it can
//     be written over at any time.
//
// Where more candidates than a few are left, sketches (sketch.go), some bits that
// hardly change during training, tell which of them are worth coding. So a file
// costs a bounded number of samples, however many ranks there are. What was learned
// is remembered by generation, which names the content; and a file that depends on
// another already needs no sample at all.
//
// # Forms
//
// Bases are newer than what depends on them. The newest member is full: it is what
// resumes training, and what others can be deleted without touching.
//
//	step        10      20      30      40      50      60
//	bases    20,30      30       –   50,60      60       –
//	form     delta   delta keyframe  delta   delta    full
//
// Reading step 10 takes 20 and 30 too. [Options] bound the length of such a chain.
// The rules, and what they cost, are those of [Plan].
//
// A base is named by its last generation, which stays when the file is coded again
// and changes with its content. So a base may change its form at any time, and one
// that a client has edited or deleted is simply not found any more; the pin, a
// hard link below .mithrilfs/bases, keeps its bytes until the dependents have been
// coded anew.
package series
