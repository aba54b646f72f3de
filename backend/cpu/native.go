package cpu

import (
	"errors"

	"github.com/gomlx/compute"
	"github.com/polargo/polar/backend/cpu/ir"
)

// nativeOps are the operations that the native compiler has and the go backend lacks.
var nativeOps = map[compute.OpType]bool{}

// errUnsupported is wrapped by what native returns for a computation that must run on the go backend, as a whole.
var errUnsupported = errors.New("not supported by the native compiler")

// runner is a compiled computation. Its methods may be called from several goroutines at once, but for Close.
type runner interface {
	// Donations says, for every output, into the memory of which parameter it can be written if that parameter is
	// donated; -1: of none. No parameter is named twice, and its memory has the output's size.
	Donations() []int

	// Run computes. inputs and outputs are the memory of the parameters and outputs, row-major and of exactly the right length;
	// outputs hold anything. donatedInto says for every output which input's memory it was given, -1: its own.
	Run(inputs, outputs [][]byte, donatedInto []int) error

	// Close frees memory. It is called once, after the last Run has returned.
	Close()
}

// native compiles a computation. Computations that it cannot compile give an error that wraps errUnsupported and says which
// operation it is and why.
func native(_ *Backend, _ *ir.Function) (runner, error) {
	return nil, errUnsupported
}
