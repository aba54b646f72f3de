package compile

import (
	"slices"
	"sort"

	"github.com/polargo/polar/backend/cpu/program"
)

// place lays the buffers out: outputs over donated inputs where that is possible, and all others in the arena, two in the same
// place only if they are needed at different times.
func (l *lowering) place() {
	p := l.out
	p.Donated = make([]int, len(p.Outputs))
	for i := range p.Donated {
		p.Donated[i] = -1
	}
	together := make([]int, len(p.Buffers)) // the buffer in whose place one lies
	for i := range together {
		together[i] = i
	}
	find := func(i int) int {
		for together[i] != i {
			i = together[i]
		}
		return i
	}
	given := map[int]bool{}
	for step, pairs := range l.pairs {
		for _, candidate := range pairs {
			in, out := find(candidate.in), candidate.out
			if together[out] != out || l.uses[out].first != step || l.uses[in].last != step || p.Buffers[in].Bytes != p.Buffers[out].Bytes ||
				in == out {
				continue
			}
			switch from, to := p.Buffers[in].Place, p.Buffers[out].Place; {
			case from == program.InArena && to == program.InArena:
				together[out] = in
				l.uses[in].last = l.uses[out].last
			case from == program.InInput && to == program.InOutput && !given[in] && p.Donated[p.Buffers[out].Index] < 0:
				p.Donated[p.Buffers[out].Index] = p.Buffers[in].Index
				given[in] = true
			}
		}
	}
	l.donateLater(given)
	l.pack(together, find)
}

// donateLater lets outputs take the place of inputs that are no longer needed when the output is first written.
func (l *lowering) donateLater(given map[int]bool) {
	p := l.out
	for out, b := range p.Buffers {
		if b.Place != program.InOutput || p.Donated[b.Index] >= 0 {
			continue
		}
		for in, from := range p.Buffers {
			if from.Place == program.InInput && !given[in] && from.Bytes == b.Bytes && l.uses[in].last < l.uses[out].first {
				p.Donated[b.Index] = from.Index
				given[in] = true
				break
			}
		}
	}
}

// pack gives arena offsets: the largest buffers first, each at the lowest place that is free while it is needed.
func (l *lowering) pack(together []int, find func(int) int) {
	p := l.out
	var order []int
	for i, b := range p.Buffers {
		if b.Place == program.InArena && together[i] == i && l.uses[i].first >= 0 {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return p.Buffers[j].Bytes - p.Buffers[i].Bytes })
	var placed []int // by offset
	for _, i := range order {
		size := program.Aligned(p.Buffers[i].Bytes)
		offset := 0
		for _, j := range placed {
			if l.uses[j].last < l.uses[i].first || l.uses[i].last < l.uses[j].first {
				continue
			}
			if p.Buffers[j].Offset-offset >= size {
				break
			}
			offset = max(offset, p.Buffers[j].Offset+program.Aligned(p.Buffers[j].Bytes))
		}
		p.Buffers[i].Offset = offset
		p.Arena = max(p.Arena, offset+size)
		at := sort.Search(len(placed), func(k int) bool { return p.Buffers[placed[k]].Offset > offset })
		placed = slices.Insert(placed, at, i)
	}
	for i := range p.Buffers {
		if p.Buffers[i].Place == program.InArena {
			p.Buffers[i].Offset = p.Buffers[find(i)].Offset
		}
	}
}
