package program

import "fmt"

// While runs Body on the state as long as Cond holds.
type While struct {
	Cond, Body         *Program
	State              []int // buffers of the initial state
	Bytes              []int // of each
	CondRest, BodyRest []int // buffers that the programs take after the state
	Outputs            []int
}

func (s *While) String() string { return fmt.Sprintf("while over %d values", len(s.State)) }

// Scratch is none: the programs have memory of their own.
func (s *While) Scratch(int) int { return 0 }

// Run loops.
func (s *While) Run(m *Machine) error {
	state, next := make([][]byte, len(s.State)), make([][]byte, len(s.State))
	for i, n := range s.Bytes {
		state[i] = m.Bytes(s.Outputs[i], 0, n)
		copy(state[i], m.Bytes(s.State[i], 0, n))
		var err error
		if next[i], err = m.allocate(n); err != nil {
			return err
		}
	}
	condRest, bodyRest := m.inputs(s.CondRest, s.Cond, len(state)), m.inputs(s.BodyRest, s.Body, len(state))
	goOn := make([]byte, 1)
	for {
		if err := s.Cond.Run(m.Engine, append(state[:len(state):len(state)], condRest...), [][]byte{goOn}); err != nil {
			return err
		}
		if goOn[0] == 0 {
			break
		}
		if err := s.Body.Run(m.Engine, append(state[:len(state):len(state)], bodyRest...), next); err != nil {
			return err
		}
		state, next = next, state
	}
	for i, n := range s.Bytes {
		if out := m.Bytes(s.Outputs[i], 0, n); n > 0 && &out[0] != &state[i][0] {
			copy(out, state[i])
		}
	}
	return nil
}

// inputs is the memory of buffers that are the program's inputs from number first on.
func (m *Machine) inputs(buffers []int, p *Program, first int) [][]byte {
	out := make([][]byte, len(buffers))
	for i, b := range buffers {
		out[i] = m.Bytes(b, 0, p.Inputs[first+i])
	}
	return out
}

// Branch runs one of two programs; Call has no predicate (-1) and only Then.
type Branch struct {
	Predicate              int // buffer, or -1
	Then, Else             *Program
	ThenInputs, ElseInputs []int
	Outputs                []int
	Bytes                  []int
}

func (s *Branch) String() string { return "branch" }

// Scratch is none: the programs have memory of their own.
func (s *Branch) Scratch(int) int { return 0 }

// Run runs the branch.
func (s *Branch) Run(m *Machine) error {
	p, inputs := s.Then, s.ThenInputs
	if s.Predicate >= 0 && m.Bytes(s.Predicate, 0, 1)[0] == 0 {
		p, inputs = s.Else, s.ElseInputs
	}
	outputs := make([][]byte, len(s.Outputs))
	for i, b := range s.Outputs {
		outputs[i] = m.Bytes(b, 0, s.Bytes[i])
	}
	return p.Run(m.Engine, m.inputs(inputs, p, 0), outputs)
}
