package compile

import (
	"slices"

	"github.com/polargo/polar/backend/cpu/program"
)

// operands lists the refs that an instruction reads.
func operands(in program.Instr) []int {
	switch in.Code {
	case program.Binary, program.RowSecond, program.RowFirst, program.DotRows:
		return []int{in.A, in.B}
	case program.Choose:
		return []int{in.A, in.B, in.C}
	case program.ReduceColumns, program.ReduceAll:
		return []int{in.A, in.D}
	}
	return []int{in.A}
}

// lastReads is the last instruction that reads each ref; -1 for none.
func (b *loopBuilder) lastReads() []int {
	last := make([]int, len(b.tile.Refs))
	for i := range last {
		last[i] = -1
	}
	for i, in := range b.tile.Instrs {
		for _, ref := range operands(in) {
			last[ref] = i
		}
	}
	return last
}

// slots hands out registers of one kind.
type slots struct {
	free  []int
	count int
}

func (s *slots) take() int {
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot
	}
	s.count++
	return s.count - 1
}

func (s *slots) give(slot int) { s.free = append(s.free, slot) }

// allocate gives registers to the values, each from the instruction that computes it to the last that reads it. Strided operands
// are loaded before the first instruction.
func (b *loopBuilder) allocate() {
	refs := b.tile.Refs
	last := b.lastReads()
	var full, row slots
	pool := func(ref int) *slots {
		switch refs[ref].Kind {
		case program.Register, program.Strided:
			return &full
		case program.RowRegister, program.StridedRow:
			return &row
		}
		return nil
	}
	for i := range refs {
		if k := refs[i].Kind; k == program.Strided || k == program.StridedRow {
			refs[i].Slot = pool(i).take()
		}
	}
	free := func(i int, in program.Instr) {
		reads := operands(in)
		for k, ref := range reads {
			if p := pool(ref); p != nil && last[ref] == i && !slices.Contains(reads[:k], ref) {
				p.give(refs[ref].Slot)
			}
		}
	}
	for i, in := range b.tile.Instrs {
		// Element by element, a result may take its operand's place.
		inPlace := in.Code == program.Binary || in.Code == program.RowSecond || in.Code == program.RowFirst || in.Code == program.Choose ||
			in.Code == program.Unary && b.sameSize(in)
		if inPlace {
			free(i, in)
		}
		if p := pool(in.D); p != nil && refs[in.D].Slot < 0 {
			refs[in.D].Slot = p.take()
			if last[in.D] < 0 {
				p.give(refs[in.D].Slot)
			}
		}
		if !inPlace {
			free(i, in)
		}
	}
	b.tile.Registers, b.tile.RowRegisters = full.count, row.count
}

// sameSize says whether an instruction's operand and result have elements of one size.
func (b *loopBuilder) sameSize(in program.Instr) bool {
	wide := func(ref int) bool { r := b.tile.Refs[ref]; return r.Elem == 0 || r.Elem == 4 }
	return wide(in.A) && wide(in.D)
}

// reads lists the buffers that the loop reads.
func (b *loopBuilder) reads() []int {
	var out []int
	for i, r := range b.tile.Refs {
		if _, written := b.stores[i]; !written && inMemory(r) && !slices.Contains(out, r.Buffer) {
			out = append(out, r.Buffer)
		}
	}
	return out
}

func inMemory(r program.Ref) bool {
	switch r.Kind {
	case program.Linear, program.LinearRow, program.Fixed, program.Strided, program.StridedRow:
		return true
	}
	return false
}

// writes lists the buffers that the loop writes.
func (b *loopBuilder) writes() []int {
	var out []int
	for i, r := range b.tile.Refs {
		if _, written := b.stores[i]; written {
			out = append(out, r.Buffer)
		}
	}
	for _, f := range b.tile.Finals {
		out = append(out, f.Buffer)
	}
	return out
}

// pair is an output that may be written over an input.
type pair struct{ out, in int }

// inPlace lists outputs that may lie where an input lies: element by element, no instruction reads the input after the output was
// written, and nothing reads it in another order.
func (b *loopBuilder) inPlace() []pair {
	last := b.lastReads()
	var out []pair
	for ref, n := range b.stores {
		stored := b.tile.Refs[ref]
		if stored.Elem != 4 {
			continue
		}
		written := slices.IndexFunc(b.tile.Instrs, func(in program.Instr) bool { return in.D == ref })
		for _, buffer := range b.reads() {
			ok := true
			for i, r := range b.tile.Refs {
				if _, isStore := b.stores[i]; isStore || !inMemory(r) || r.Buffer != buffer {
					continue
				}
				if r.Kind != stored.Kind || r.Offset != 0 || r.Elem != 4 || last[i] > written {
					ok = false
				}
			}
			if ok {
				out = append(out, pair{b.buffer(n), buffer})
			}
		}
	}
	slices.SortFunc(out, func(x, y pair) int {
		if x.out != y.out {
			return x.out - y.out
		}
		return x.in - y.in
	})
	return out
}
