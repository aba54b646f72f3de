package program

import (
	"fmt"
	"unsafe"
)

// Move copies elements between layouts: for each index of Dims, from From.Offset + Σ index·strides to the same of To.
type Move struct {
	Name                   string
	Elem                   int // bytes
	Dims                   []int
	To, From               int // buffers
	ToOffset, FromOffset   int // elements
	ToStrides, FromStrides []int
}

func (s *Move) String() string { return fmt.Sprintf("move %s %v", s.Name, s.Dims) }

// Scratch is none.
func (s *Move) Scratch(int) int { return 0 }

// moveElements is about how many elements a task of a Move has.
const moveElements = 1 << 15

// Run copies, the outermost axes split over the team.
func (s *Move) Run(m *Machine) error {
	if count(s.Dims) == 0 {
		return nil
	}
	dst := unsafe.Add(m.Memory[s.To], s.ToOffset*s.Elem)
	src := unsafe.Add(m.Memory[s.From], s.FromOffset*s.Elem)
	axis := 0
	for i, d := range s.Dims { // split the longest axis
		if d > s.Dims[axis] {
			axis = i
		}
	}
	if len(s.Dims) == 0 || count(s.Dims) < 2*moveElements {
		m.Kernels.CopyStridedAt(dst, src, s.Elem, s.Dims, s.ToStrides, s.FromStrides)
		return nil
	}
	per := max(1, s.Dims[axis]*moveElements/count(s.Dims))
	tasks := (s.Dims[axis] + per - 1) / per
	m.Team.Run(tasks, func(_, task int) {
		from := task * per
		dims := append([]int(nil), s.Dims...)
		dims[axis] = min(per, s.Dims[axis]-from)
		m.Kernels.CopyStridedAt(unsafe.Add(dst, from*s.ToStrides[axis]*s.Elem), unsafe.Add(src, from*s.FromStrides[axis]*s.Elem), s.Elem,
			dims, s.ToStrides, s.FromStrides)
	})
	return nil
}

func count(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

// Set fills elements of a layout with the value of one element of another buffer.
type Set struct {
	Elem      int
	Dims      []int
	To, Value int
	Strides   []int
	Offset    int
}

func (s *Set) String() string { return fmt.Sprintf("set %v", s.Dims) }

// Scratch is none.
func (s *Set) Scratch(int) int { return 0 }

// Run fills.
func (s *Set) Run(m *Machine) error {
	zero := make([]int, len(s.Dims))
	m.Kernels.CopyStridedAt(unsafe.Add(m.Memory[s.To], s.Offset*s.Elem), m.Memory[s.Value], s.Elem, s.Dims, s.Strides, zero)
	return nil
}

// Slice copies a window of an operand that begins at scalar indices, clamped so that it lies within; or writes an update there.
type Slice struct {
	Elem    int
	Dims    []int // of the window
	Whole   []int // of the operand
	Operand int
	Window  int
	Starts  []int // buffers of one int32, int64 or smaller index each
	Index   []func(unsafe.Pointer) int
	Update  bool
}

func (s *Slice) String() string { return fmt.Sprintf("slice %v of %v", s.Dims, s.Whole) }

// Scratch is none.
func (s *Slice) Scratch(int) int { return 0 }

// Run copies.
func (s *Slice) Run(m *Machine) error {
	whole, window := RowMajor(s.Whole), RowMajor(s.Dims)
	offset := 0
	for i, b := range s.Starts {
		at := min(max(s.Index[i](m.Memory[b]), 0), s.Whole[i]-s.Dims[i])
		offset += at * whole[i]
	}
	operand := unsafe.Add(m.Memory[s.Operand], offset*s.Elem)
	if s.Update {
		m.Kernels.CopyStridedAt(operand, m.Memory[s.Window], s.Elem, s.Dims, whole, window)
		return nil
	}
	m.Kernels.CopyStridedAt(m.Memory[s.Window], operand, s.Elem, s.Dims, window, whole)
	return nil
}

// RowMajor is the strides of a dense array.
func RowMajor(dims []int) []int {
	strides := make([]int, len(dims))
	next := 1
	for i := len(dims) - 1; i >= 0; i-- {
		strides[i] = next
		next *= dims[i]
	}
	return strides
}
