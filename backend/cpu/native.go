package cpu

import (
	"github.com/gomlx/compute"
	"github.com/polargo/polar/backend/cpu/compile"
	"github.com/polargo/polar/backend/cpu/ir"
	"github.com/polargo/polar/backend/cpu/program"
)

// nativeOps are the operations that the native compiler has and the go backend lacks.
var nativeOps = map[compute.OpType]bool{
	compute.OpTypeDynamicSlice:                      true,
	compute.OpTypeDynamicUpdateSlice:                true,
	compute.OpTypeFusedScaledDotProductAttention:    true,
	compute.OpTypeFusedScaledDotProductAttentionVJP: true,
}

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

// compiler is what native is.
type compiler = func(b *Backend, main *ir.Function) (runner, error)

// native compiles a computation. Computations that it cannot compile give an error that wraps compile.ErrUnsupported and says which
// operation it is and why.
func native(b *Backend, main *ir.Function) (runner, error) {
	p, err := compile.Compile(main, compile.Options{Level: b.level, BF16: b.bf16, Foreign: b.foreign})
	if err != nil {
		return nil, err
	}
	return &compiled{program: p, engine: b.engine}, nil
}

// compiled is a program on the backend's engine.
type compiled struct {
	program *program.Program
	engine  *program.Engine
}

func (c *compiled) Donations() []int { return c.program.Donated }

func (c *compiled) Run(inputs, outputs [][]byte, _ []int) error {
	return c.program.Run(c.engine, inputs, outputs)
}

func (c *compiled) Close() {}
