package program

import (
	"fmt"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/gemm"
)

// Product is a batch of matrix products.
type Product[T float32 | float64] struct {
	Plan    *gemm.Plan[T]
	C, A, B int // buffers
	Elems   [3]int
	Name    string
}

// NewProduct returns the step for a plan on buffers of the given numbers of elements.
func NewProduct[T float32 | float64](plan *gemm.Plan[T], c, a, b int, elems [3]int, name string) *Product[T] {
	return &Product[T]{Plan: plan, C: c, A: a, B: b, Elems: elems, Name: name}
}

func (s *Product[T]) String() string { return "product " + s.Name + " " + s.Plan.Kernel() }

// Scratch is the plan's.
func (s *Product[T]) Scratch(workers int) int {
	return s.Plan.Scratch(workers) * int(unsafe.Sizeof(T(0)))
}

// Run multiplies.
func (s *Product[T]) Run(m *Machine) error {
	c := unsafe.Slice((*T)(m.Memory[s.C]), s.Elems[0])
	a := unsafe.Slice((*T)(m.Memory[s.A]), s.Elems[1])
	b := unsafe.Slice((*T)(m.Memory[s.B]), s.Elems[2])
	scratch := unsafe.Slice((*T)(m.Scratch()), s.Plan.Scratch(m.Team.Size()))
	s.Plan.Run(m.Team, c, a, b, scratch, nil)
	return nil
}

// Foreign runs an operation by a function on the memory of its inputs and outputs.
type Foreign struct {
	Name            string
	Inputs, Outputs []int
	InBytes         []int
	OutBytes        []int
	Call            func(inputs, outputs [][]byte) error
}

func (s *Foreign) String() string { return "foreign " + s.Name }

// Scratch is none.
func (s *Foreign) Scratch(int) int { return 0 }

// Run calls the function.
func (s *Foreign) Run(m *Machine) error {
	in, out := make([][]byte, len(s.Inputs)), make([][]byte, len(s.Outputs))
	for i, b := range s.Inputs {
		in[i] = m.Bytes(b, 0, s.InBytes[i])
	}
	for i, b := range s.Outputs {
		out[i] = m.Bytes(b, 0, s.OutBytes[i])
	}
	return s.Call(in, out)
}

// run calls a step and turns its panics into errors: a step that panics is a mistake of ours, not the end of the caller's process.
func run(s Step, m *Machine) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %v", s, p)
		}
	}()
	return s.Run(m)
}
