package program

import (
	"fmt"
	"math"
	"strings"
	"unsafe"

	"github.com/polargo/polar/backend/cpu/kernel/vector"
)

// RefKind says where an operand of a tile instruction is.
type RefKind uint8

// The kinds of operands. Linear ones move with the tile.
const (
	Register    RefKind = iota // scratch of one value an element
	RowRegister                // scratch of one value a row
	Linear                     // memory, one value an element
	LinearRow                  // memory, one value a row
	Fixed                      // memory, the same for every tile
	Strided                    // memory of any layout, one value an element; copied to a register where it is not contiguous
	StridedRow                 // the same, one value a row
	Partial                    // the task's part of a reduction over tasks
)

// Ref is an operand.
type Ref struct {
	Kind    RefKind
	Buffer  int
	Offset  int // elements, in the buffer
	Elem    int // bytes an element in memory
	Slot    int // of registers: number; of strided ones: the register that they are copied to; of partials: which
	Dims    []int
	Strides []int
}

// Code is what an instruction does.
type Code uint8

// The codes. D is the destination.
const (
	Unary         Code = iota // D = F1(A)
	Binary                    // D = F2(A, B)
	RowSecond                 // D = F2(A, B), B one value a row
	RowFirst                  // D = F2(A, B), A one value a row
	Choose                    // D = A ? B : C, F3
	Expand                    // D = the row values of A, each for its row
	Spread                    // D = the one value of A
	ReduceRows                // D = FR(A), one value a row
	DotRows                   // D = Σ A B of each row
	ReduceColumns             // D = op(D, rows of A), D a partial
	ReduceAll                 // D = op(D, all of A), D a partial
	Round                     // D = A rounded to bfloat16
)

// Instr is an instruction on a tile.
type Instr struct {
	Code    Code
	Row     bool // on one value a row instead of one an element
	Single  bool // on one value
	D       int
	A, B, C int
	F1      vector.UnaryFunc
	F2      vector.BinaryFunc
	F3      vector.TernaryFunc
	FR      vector.RowsFunc
}

// Final finishes a reduction over tasks: Reduce over the partials, then Round if set, into memory.
type Final struct {
	Slot     int // of the partials
	Columns  int
	Identity float32
	Reduce   vector.RowsFunc // AddColumns, MaxColumns or MinColumns
	Buffer   int
	BF16     bool // memory holds bfloat16
}

// Tile is a fused loop: instructions on one tile of elements after another, each tile small enough for the caches.
type Tile struct {
	Name         string
	Size         int // elements
	Columns      int // elements a row; 0 for no rows
	Step         int // elements a tile; a multiple of Columns
	Chunk        int // elements a task; a multiple of Step
	Refs         []Ref
	Instrs       []Instr
	Finals       []Final
	Registers    int
	RowRegisters int
}

// tileElements is about how many elements a tile has: 8 KiB a value.
const tileElements = 2048

// mostTasks is into how many tasks a loop is split at most. The split decides the order of sums, so it is the same for any team.
const mostTasks = 64

// Layout chooses the tiles and tasks of a loop by its size.
func (t *Tile) Layout() {
	t.Step = tileElements
	if t.Columns > 0 {
		t.Step = max(1, tileElements/t.Columns) * t.Columns
	}
	tiles := (t.Size + t.Step - 1) / t.Step
	t.Chunk = t.Step * max(1, (tiles+mostTasks-1)/mostTasks)
}

func (t *Tile) tasks() int { return (t.Size + t.Chunk - 1) / t.Chunk }

func (t *Tile) String() string {
	return fmt.Sprintf("loop %d x %d %s", t.Size, len(t.Instrs), t.Name)
}

func (t *Tile) rowsOfTile() int {
	if t.Columns == 0 {
		return 1
	}
	return t.Step / t.Columns
}

// perWorker is the scratch of one worker in bytes: registers, row registers and one value for totals.
func (t *Tile) perWorker() int {
	return Aligned(4*t.Step)*t.Registers + Aligned(4*t.rowsOfTile())*t.RowRegisters + 2*Align
}

// Scratch is the registers of every worker and the partials of every task.
func (t *Tile) Scratch(workers int) int {
	partials := 0
	for _, f := range t.Finals {
		partials += Aligned(4 * f.Columns * t.tasks())
	}
	return t.perWorker()*workers + partials
}

// Run runs the loop.
func (t *Tile) Run(m *Machine) error {
	tasks := t.tasks()
	partials := make([]unsafe.Pointer, len(t.Finals))
	next := unsafe.Add(m.Scratch(), t.perWorker()*m.Team.Size())
	for i, f := range t.Finals {
		partials[i] = next
		next = unsafe.Add(next, Aligned(4*f.Columns*tasks))
	}
	state := make([]worker, m.Team.Size())
	run := func(w, task int) {
		s := &state[w]
		if s.ptr == nil {
			s.begin(t, m, w)
		}
		for i, f := range t.Finals {
			s.partial[i] = unsafe.Add(partials[i], 4*f.Columns*task)
			m.Kernels.Fill(s.partial[i], unsafe.Pointer(&f.Identity), f.Columns)
		}
		end := min(t.Size, (task+1)*t.Chunk)
		for start := task * t.Chunk; start < end; start += t.Step {
			s.tile(t, m, start, min(t.Step, end-start))
		}
	}
	m.Team.Run(tasks, run)
	for i, f := range t.Finals {
		out := m.Memory[f.Buffer]
		if f.BF16 {
			out = partials[i]
			f.Reduce(out, unsafe.Add(out, 4*f.Columns), tasks-1, f.Columns)
			m.Kernels.BF16FromFloat(m.Memory[f.Buffer], out, f.Columns)
			continue
		}
		copy(unsafe.Slice((*float32)(out), f.Columns), unsafe.Slice((*float32)(partials[i]), f.Columns))
		f.Reduce(out, unsafe.Add(partials[i], 4*f.Columns), tasks-1, f.Columns)
	}
	return nil
}

// worker is the state of one worker in a loop.
type worker struct {
	ptr        []unsafe.Pointer // of each ref, for the tile
	partial    []unsafe.Pointer
	full, rows unsafe.Pointer // registers
	total      unsafe.Pointer
}

func (s *worker) begin(t *Tile, m *Machine, w int) {
	s.ptr = make([]unsafe.Pointer, len(t.Refs))
	s.partial = make([]unsafe.Pointer, len(t.Finals))
	s.full = unsafe.Add(m.Scratch(), w*t.perWorker())
	s.rows = unsafe.Add(s.full, Aligned(4*t.Step)*t.Registers)
	s.total = unsafe.Add(s.rows, Aligned(4*t.rowsOfTile())*t.RowRegisters)
	for i := range t.Refs {
		switch r := &t.Refs[i]; r.Kind {
		case Register, RowRegister:
			s.ptr[i] = s.register(t, r)
		case Fixed:
			s.ptr[i] = unsafe.Add(m.Memory[r.Buffer], r.Offset*r.Elem)
		}
	}
}

// place finds the operands of a tile in memory.
func (s *worker) place(t *Tile, m *Machine, start, n, row, rows int) {
	for i := range t.Refs {
		r := &t.Refs[i]
		switch r.Kind {
		case Linear:
			s.ptr[i] = unsafe.Add(m.Memory[r.Buffer], (r.Offset+start)*r.Elem)
		case LinearRow:
			s.ptr[i] = unsafe.Add(m.Memory[r.Buffer], (r.Offset+row)*r.Elem)
		case Strided, StridedRow:
			first, count := start, n
			if r.Kind == StridedRow {
				first, count = row, rows
			}
			if p, ok := r.contiguous(m.Memory[r.Buffer], first, count); ok {
				s.ptr[i] = p
				continue
			}
			s.ptr[i] = s.register(t, r)
			r.load(m.Kernels, s.ptr[i], m.Memory[r.Buffer], first, count)
		case Partial:
			s.ptr[i] = s.partial[r.Slot]
		}
	}
}

// register is the scratch of a register or of a strided operand.
func (s *worker) register(t *Tile, r *Ref) unsafe.Pointer {
	if r.Kind == RowRegister || r.Kind == StridedRow {
		return unsafe.Add(s.rows, r.Slot*Aligned(4*t.rowsOfTile()))
	}
	return unsafe.Add(s.full, r.Slot*Aligned(4*t.Step))
}

// tile runs the instructions on n elements from start.
func (s *worker) tile(t *Tile, m *Machine, start, n int) {
	rows, row := 1, 0
	if t.Columns > 0 {
		rows, row = n/t.Columns, start/t.Columns
	}
	s.place(t, m, start, n, row, rows)
	for i := range t.Instrs {
		s.instr(&t.Instrs[i], m.Kernels, n, rows, t.Columns)
	}
}

func (s *worker) instr(in *Instr, k *vector.Kernels, n, rows, columns int) {
	p := s.ptr
	count := n
	if in.Row {
		count = rows
	}
	if in.Single {
		count = 1
	}
	switch in.Code {
	case Unary:
		in.F1(p[in.D], p[in.A], count)
	case Binary:
		in.F2(p[in.D], p[in.A], p[in.B], count)
	case RowSecond:
		d, a, b := p[in.D], p[in.A], p[in.B]
		for r := range rows {
			in.F2(unsafe.Add(d, 4*r*columns), unsafe.Add(a, 4*r*columns), unsafe.Add(b, 4*r), columns)
		}
	case RowFirst:
		d, a, b := p[in.D], p[in.A], p[in.B]
		for r := range rows {
			in.F2(unsafe.Add(d, 4*r*columns), unsafe.Add(a, 4*r), unsafe.Add(b, 4*r*columns), columns)
		}
	case Choose:
		in.F3(p[in.D], p[in.A], p[in.B], p[in.C], count)
	case Expand:
		k.Repeat(p[in.D], p[in.A], rows, columns)
	case Spread:
		k.Fill(p[in.D], p[in.A], count)
	case ReduceRows:
		in.FR(p[in.D], p[in.A], rows, columns)
	case DotRows:
		k.DotRows(p[in.D], p[in.A], p[in.B], rows, columns)
	case ReduceColumns:
		in.FR(p[in.D], p[in.A], rows, columns)
	case ReduceAll:
		in.FR(s.total, p[in.A], 1, n)
		in.F2(p[in.D], p[in.D], s.total, 1)
	case Round:
		k.BF16FromFloat(p[in.D], p[in.A], count)
		widen(p[in.D], count)
	}
}

// widen turns n bfloat16 at the start of a register into float32 in place, from the end.
func widen(p unsafe.Pointer, n int) {
	narrow, wide := unsafe.Slice((*uint16)(p), n), unsafe.Slice((*uint32)(p), n)
	for i := n - 1; i >= 0; i-- {
		wide[i] = uint32(narrow[i]) << 16
	}
}

// offset is where element i of a strided operand lies, in elements.
func (r *Ref) offset(i int) int {
	at := r.Offset
	for k := len(r.Dims) - 1; k >= 0; k-- {
		at += i % r.Dims[k] * r.Strides[k]
		i /= r.Dims[k]
	}
	return at
}

// contiguous is the address of count elements from first if they lie one after another and need no conversion.
func (r *Ref) contiguous(base unsafe.Pointer, first, count int) (unsafe.Pointer, bool) {
	last := len(r.Dims) - 1
	if last < 0 || r.Strides[last] != 1 || r.Elem != 4 || first%r.Dims[last]+count > r.Dims[last] {
		return nil, false
	}
	return unsafe.Add(base, 4*r.offset(first)), true
}

// load copies count elements from first to dst, one run of the innermost axis after another.
func (r *Ref) load(k *vector.Kernels, dst, base unsafe.Pointer, first, count int) {
	last := len(r.Dims) - 1
	inner, stride := r.Dims[last], r.Strides[last]
	for count > 0 {
		within := first % inner
		n := min(inner-within, count)
		src := unsafe.Add(base, r.Elem*r.offset(first))
		if rows := r.wholeRuns(first, count); rows > 1 && r.Elem == 4 && stride == 1 {
			k.Copy2D(dst, src, rows, inner, inner, r.Strides[last-1])
			n = rows * inner
		} else {
			r.copyRun(k, dst, src, n, stride)
		}
		dst = unsafe.Add(dst, r.Elem*n)
		first += n
		count -= n
	}
}

// wholeRuns is how many whole runs lie at equal distances from element first on, within count elements.
func (r *Ref) wholeRuns(first, count int) int {
	last := len(r.Dims) - 1
	inner := r.Dims[last]
	if last < 1 || first%inner != 0 {
		return 0
	}
	return min(count/inner, r.Dims[last-1]-first/inner%r.Dims[last-1])
}

func (r *Ref) copyRun(k *vector.Kernels, dst, src unsafe.Pointer, n, stride int) {
	switch {
	case r.Elem == 4 && stride == 0:
		k.Fill(dst, src, n)
	case r.Elem == 4:
		k.Strided(dst, src, n, stride)
	case stride == 1:
		copy(unsafe.Slice((*byte)(dst), n*r.Elem), unsafe.Slice((*byte)(src), n*r.Elem))
	case r.Elem == 2:
		for i := range n {
			*(*uint16)(unsafe.Add(dst, 2*i)) = *(*uint16)(unsafe.Add(src, 2*i*stride))
		}
	default:
		for i := range n {
			*(*byte)(unsafe.Add(dst, i)) = *(*byte)(unsafe.Add(src, i*stride))
		}
	}
}

// Identities of the reductions.
var (
	SumIdentity = float32(0)
	MaxIdentity = float32(math.Inf(-1))
	MinIdentity = float32(math.Inf(1))
)

// Listing describes the instructions of a loop, for debugging.
func (t *Tile) Listing() string {
	var b strings.Builder
	for i, in := range t.Instrs {
		fmt.Fprintf(&b, "%3d code %d row %v: d %d a %d b %d c %d\n", i, in.Code, in.Row, in.D, in.A, in.B, in.C)
	}
	for i, r := range t.Refs {
		fmt.Fprintf(&b, "ref %d: %+v\n", i, r)
	}
	return b.String()
}
