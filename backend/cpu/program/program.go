// Package program runs compiled functions: a list of steps on memory that was laid out beforehand.
//
// A Program is read-only once built; any number of goroutines may run it at once, each with its own Machine memory. What a step
// computes does not depend on the number of workers.
package program

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/feature"
	"github.com/polargo/polar/backend/cpu/kernel/vector"
	"github.com/polargo/polar/backend/cpu/team"
)

// Place says what holds a buffer.
type Place uint8

// The places of buffers.
const (
	InArena    Place = iota // at Offset bytes of the arena
	InInput                 // memory of input Index
	InOutput                // memory of output Index
	InConstant              // Constants[Index]
)

// Buffer is a piece of memory that steps read and write.
type Buffer struct {
	Place  Place
	Index  int
	Offset int
	Bytes  int
}

// Step is one operation of a program.
type Step interface {
	// Run computes the step's outputs. An error ends the program.
	Run(m *Machine) error
	// Scratch is how many bytes of scratch memory Run needs with a number of workers.
	Scratch(workers int) int
	// String names the step for profiles: what it does, on what shapes.
	String() string
}

// Program is a compiled function.
type Program struct {
	Name      string
	Buffers   []Buffer
	Constants [][]byte
	Steps     []Step
	Inputs    []int // bytes of each input
	Outputs   []int // bytes of each output
	Arena     int   // bytes
	// Donated lists, for each output, the input whose memory may hold it from the start, or -1. Only if the caller gives that input
	// away.
	Donated []int
}

// Engine is what programs run on.
type Engine struct {
	Team    *team.Team
	Level   feature.Level
	Kernels *vector.Kernels
	arenas  arenas
	// allocate provides memory, aligned to Align.
	allocate func(n int) ([]byte, error)
	profile  atomic.Pointer[Profile]
}

// NewEngine returns an engine whose steps run on the given team with kernels of a level. allocate provides n bytes of memory, as
// Memory does, or an error where there is not so much; nil: Memory.
func NewEngine(t *team.Team, level feature.Level, allocate func(n int) ([]byte, error)) *Engine {
	if allocate == nil {
		allocate = func(n int) ([]byte, error) { return Memory(n), nil }
	}
	return &Engine{Team: t, Level: level, Kernels: vector.For(level), allocate: allocate}
}

// Machine is one run of a program.
type Machine struct {
	*Engine
	Memory  []unsafe.Pointer // of each buffer
	scratch unsafe.Pointer
}

// Scratch returns the step's scratch memory, 64-byte aligned.
func (m *Machine) Scratch() unsafe.Pointer { return m.scratch }

// Floats returns n float32 of a buffer from an offset in elements.
func (m *Machine) Floats(buffer, offset, n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Add(m.Memory[buffer], 4*offset)), n)
}

// Bytes returns n bytes of a buffer from an offset.
func (m *Machine) Bytes(buffer, offset, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(m.Memory[buffer], offset)), n)
}

// Run computes outputs from inputs, all memory of the sizes that the program states. An output's memory may be that of its
// donated input; all else is apart.
func (p *Program) Run(e *Engine, inputs, outputs [][]byte) error {
	if len(inputs) != len(p.Inputs) || len(outputs) != len(p.Outputs) {
		return fmt.Errorf("program %s: %d inputs and %d outputs, want %d and %d", p.Name, len(inputs), len(outputs), len(p.Inputs), len(p.Outputs))
	}
	scratch := p.scratch(e.Team.Size())
	// A line more: where nothing is needed at the end, pointers to it would leave the allocation, and the garbage collector stops at those.
	arena, err := e.arenas.take(p.Arena+scratch+Align, e.allocate)
	if err != nil {
		return fmt.Errorf("program %s: %w", p.Name, err)
	}
	defer e.arenas.give(arena)
	m := &Machine{Engine: e, Memory: make([]unsafe.Pointer, len(p.Buffers))}
	base := unsafe.Pointer(unsafe.SliceData(arena))
	m.scratch = unsafe.Add(base, p.Arena)
	for i, b := range p.Buffers {
		switch b.Place {
		case InArena:
			m.Memory[i] = unsafe.Add(base, b.Offset)
		case InInput:
			m.Memory[i] = unsafe.Pointer(unsafe.SliceData(inputs[b.Index]))
		case InOutput:
			m.Memory[i] = unsafe.Pointer(unsafe.SliceData(outputs[b.Index]))
		case InConstant:
			m.Memory[i] = unsafe.Pointer(unsafe.SliceData(p.Constants[b.Index]))
		}
	}
	profile := e.profile.Load()
	for _, s := range p.Steps {
		start := time.Time{}
		if profile != nil {
			start = time.Now()
		}
		if err := run(s, m); err != nil {
			return err
		}
		if profile != nil {
			profile.add(s.String(), time.Since(start))
		}
	}
	return nil
}

func (p *Program) scratch(workers int) int {
	most := 0
	for _, s := range p.Steps {
		most = max(most, s.Scratch(workers))
	}
	return most
}

// arenas keeps the memory of runs that ended for the next ones: fresh memory costs a page fault every 4 KiB.
type arenas struct {
	mu   sync.Mutex
	free [][]byte
}

// take returns at least n bytes, aligned, of its own or else by allocate.
func (a *arenas) take(n int, allocate func(n int) ([]byte, error)) ([]byte, error) {
	a.mu.Lock()
	best := -1
	for i, f := range a.free {
		if len(f) >= n && (best < 0 || len(f) < len(a.free[best])) {
			best = i
		}
	}
	if best >= 0 {
		out := a.free[best]
		a.free = append(a.free[:best], a.free[best+1:]...)
		a.mu.Unlock()
		return out, nil
	}
	// None is large enough: the largest free one makes room for the new one.
	if len(a.free) > 0 {
		largest := 0
		for i, f := range a.free {
			if len(f) > len(a.free[largest]) {
				largest = i
			}
		}
		a.free = append(a.free[:largest], a.free[largest+1:]...)
	}
	a.mu.Unlock()
	return allocate(n)
}

func (a *arenas) give(arena []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free = append(a.free, arena)
}

// Release lets go of memory kept for further runs.
func (e *Engine) Release() {
	e.arenas.mu.Lock()
	defer e.arenas.mu.Unlock()
	e.arenas.free = nil
}
