package attention

import (
	"encoding/binary"
	"unsafe"
)

// masks are the two kinds of mask of a call, one of them or neither set.
type masks struct {
	seen []byte // bool as bytes 0 and 1
	add  []float32
}

func newMasks(kind MaskKind, mask any) (m masks) {
	switch kind {
	case BoolMask:
		b := mask.([]bool)
		m.seen = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b))), len(b))
	case AddMask:
		m.add = mask.([]float32)
	}
	return m
}

func (s MaskStrides) at(batch, head, query, key int) int {
	return batch*s.Batch + head*s.Head + query*s.Query + key*s.Key
}

// visibility says which queries of a panel see which keys of a block: bit i of bits[key-base] is set where query i does.
type visibility struct {
	bits [keyBlock]uint32
	base int
}

const everyQuery = ^uint32(0)

// look fills in the bits for the keys and returns those left when keys that no query sees are cut off at both ends, and
// whether every query sees all of these, so that the bits need not be looked at.
func (v *visibility) look(p *Plan, x *panel, m *masks, keys span) (left span, all bool) {
	v.base = keys.from
	last := x.first + x.rows - 1
	byPosition := p.Causal && (keys.to-1 > x.first || p.Window > 0 && keys.from < last-p.Window+1)
	if !byPosition && m.seen == nil {
		return keys, true
	}
	bits := v.bits[:keys.to-keys.from]
	for i := range bits {
		bits[i] = everyQuery
		if byPosition {
			bits[i] = p.seenBy(x.first, keys.from+i)
		}
	}
	if m.seen != nil {
		p.cutBits(bits, x, m.seen, keys)
	}
	there := everyQuery >> (panelWidth - x.rows)
	left = keys
	for left.from < left.to && bits[left.from-v.base]&there == 0 {
		left.from++
	}
	for left.from < left.to && bits[left.to-1-v.base]&there == 0 {
		left.to--
	}
	all = true
	for _, b := range bits[left.from-v.base : left.to-v.base] {
		all = all && b&there == there
	}
	return left, all
}

// seenBy are the bits of the queries from first on that see a key by position.
func (p *Plan) seenBy(first, key int) uint32 {
	bits := everyQuery
	if ahead := key - first; ahead > 0 {
		bits = everyQuery << ahead // 0 from 32 on
	}
	if p.Window > 0 {
		if end := key + p.Window - first; end < panelWidth {
			bits &= 1<<max(0, end) - 1
		}
	}
	return bits
}

// cutBits clears the bits that a mask hides. Most masks are runs of one value, so keys are looked at eight at a time.
func (p *Plan) cutBits(bits []uint32, x *panel, seen []byte, keys span) {
	const allSeen = 0x0101010101010101
	for i := range x.rows {
		at := p.MaskStrides.at(x.batch, x.head, x.first+i, keys.from)
		k := 0
		if p.MaskStrides.Key == 1 {
			row := seen[at:][:len(bits)]
			for ; k+8 <= len(row); k += 8 {
				word := binary.LittleEndian.Uint64(row[k:])
				if word == allSeen {
					continue
				}
				for j := range 8 {
					bits[k+j] &^= uint32(1&^(word>>(8*j))) << i
				}
			}
		}
		for ; k < len(bits); k++ {
			bits[k] &^= uint32(1&^seen[at+k*p.MaskStrides.Key]) << i
		}
	}
}

// addMask adds a mask to the scores s [key][panelWidth] of keys, in the units of exponents of two.
func (p *Plan) addMask(s []float32, x *panel, add []float32, keys span) {
	for i := range x.rows {
		at := p.MaskStrides.at(x.batch, x.head, x.first+i, keys.from)
		for k := range keys.to - keys.from {
			s[k*panelWidth+i] += add[at+k*p.MaskStrides.Key] * log2e
		}
	}
}
