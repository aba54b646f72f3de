// Package cpu is a backend of GoMLX for processors, registered under the name "polar": importing it is enough.
//
// A Builder records what is built, as a graph of package ir, and builds the same at once in GoMLX's portable backend "go" (the
// shadow). The shadow checks: what it refuses is refused, with its words, and the shapes are its own. Compile hands the graph to
// the native compiler; what that cannot do yet is run by the shadow instead, as a whole, and logged once at verbosity 1.
//
// Buffers are memory of this process, aligned to 64 bytes: Data gives the values themselves. A buffer's memory goes back to a
// pool when it is finalised and no execution uses it any more, so a slice from Data must not be used afterwards. New buffers are
// not zeroed. All methods of Backend, Buffer and Executable may be called from several goroutines at once; a Builder and its
// Functions belong to one.
//
// Configuration, after "polar:" and separated by commas: "bf16" (products of float32 computed from operands rounded to bfloat16,
// where the processor has such products), "threads=N". POLAR_CPU=generic, avx2 or avx512 chooses lower instructions than the
// processor has, for tests.
package cpu
