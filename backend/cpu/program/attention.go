package program

import (
	"fmt"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/attention"
)

// Operand is a part of a buffer of float32 or bool: elements from Offset on.
type Operand struct{ Buffer, Offset, Elems int }

func (m *Machine) floats(o Operand) []float32 { return m.Floats(o.Buffer, o.Offset, o.Elems) }

// Attention is scaled dot-product attention, or its vector-Jacobian product if Gradient is set.
type Attention struct {
	Plan     *attention.Plan
	Gradient bool
	// Out and Stats are outputs of the forward step, and inputs of the gradient, which writes DQ, DK and DV.
	Q, K, V, Out, Stats, DOut, DQ, DK, DV Operand
	Mask                                  Operand // Elems 0: none
}

func (s *Attention) String() string {
	name := "attention"
	if s.Gradient {
		name = "attention gradient"
	}
	p := s.Plan
	return fmt.Sprintf("%s %d x %d heads (%d), %d x %d, dim %d", name, p.Batch, p.Heads, p.KVHeads, p.QueryLen, p.KeyLen, p.Dim)
}

// Scratch is the plan's.
func (s *Attention) Scratch(workers int) int {
	if s.Gradient {
		return 4 * s.Plan.ScratchVJP(workers)
	}
	return 4 * s.Plan.Scratch(workers)
}

// Run attends.
func (s *Attention) Run(m *Machine) error {
	scratch := unsafe.Slice((*float32)(m.Scratch()), s.Scratch(m.Team.Size())/4)
	var mask any
	switch s.Plan.Mask {
	case attention.BoolMask:
		mask = unsafe.Slice((*bool)(unsafe.Add(m.Memory[s.Mask.Buffer], s.Mask.Offset)), s.Mask.Elems)
	case attention.AddMask:
		mask = m.floats(s.Mask)
	}
	if s.Gradient {
		s.Plan.RunVJP(m.Team, m.floats(s.DQ), m.floats(s.DK), m.floats(s.DV), m.floats(s.Q), m.floats(s.K), m.floats(s.V), m.floats(s.Out),
			m.floats(s.Stats), m.floats(s.DOut), mask, scratch)
		return nil
	}
	s.Plan.Run(m.Team, m.floats(s.Out), m.floats(s.Stats), m.floats(s.Q), m.floats(s.K), m.floats(s.V), mask, scratch)
	return nil
}
