package tokenizer

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// subwords is a tokenizer.json "model": it turns one piece into ids. spelled is the vocabulary.
type subwords interface {
	encode(dst []int32, piece string) ([]int32, error)
	vocab() map[string]int32
}

type bpeJSON struct {
	Vocab                   json.RawMessage `json:"vocab"`
	Merges                  json.RawMessage `json:"merges"`
	UnkToken                *string         `json:"unk_token"`
	ContinuingSubwordPrefix *string         `json:"continuing_subword_prefix"`
	EndOfWordSuffix         *string         `json:"end_of_word_suffix"`
	FuseUnk                 bool            `json:"fuse_unk"`
	ByteFallback            bool            `json:"byte_fallback"`
	IgnoreMerges            bool            `json:"ignore_merges"`
}

// bpe merges neighbouring symbols by rank, lowest first, leftmost among equals (Sennrich et al. 2016, arXiv 1508.07909). Merge dropout
// is for training a tokenizer's robustness and is left out: ids are deterministic.
type bpe struct {
	ids            map[string]int32
	merges         map[uint64]merge // key: left<<32 | right
	unk            int32            // -1: none
	prefix, suffix string
	fuseUnk        bool
	ignoreMerges   bool
	byteID         *[256]int32 // nil without byte fallback
}

type merge struct{ rank, to int32 }

func pairKey(left, right int32) uint64 { return uint64(uint32(left))<<32 | uint64(uint32(right)) }

func newBPE(raw json.RawMessage) (*bpe, error) {
	var j bpeJSON
	if err := decodeInto("model", raw, &j); err != nil {
		return nil, err
	}
	ids, err := parseVocab(j.Vocab)
	if err != nil {
		return nil, err
	}
	pairs, err := parseMerges(j.Merges)
	if err != nil {
		return nil, err
	}
	m := &bpe{ids: ids, unk: -1, fuseUnk: j.FuseUnk, ignoreMerges: j.IgnoreMerges}
	if j.ContinuingSubwordPrefix != nil {
		m.prefix = *j.ContinuingSubwordPrefix
	}
	if j.EndOfWordSuffix != nil {
		m.suffix = *j.EndOfWordSuffix
	}
	if j.UnkToken != nil && *j.UnkToken != "" {
		id, ok := ids[*j.UnkToken]
		if !ok {
			return nil, fmt.Errorf("model.unk_token %q is not in the vocabulary", *j.UnkToken)
		}
		m.unk = id
	}
	if j.ByteFallback {
		m.byteID = byteIDs(ids)
	}
	return m, m.addMerges(pairs)
}

func (m *bpe) addMerges(pairs [][2]string) error {
	m.merges = make(map[uint64]merge, len(pairs))
	for rank, p := range pairs {
		left, okLeft := m.ids[p[0]]
		right, okRight := m.ids[p[1]]
		if len(p[1]) < len(m.prefix) {
			return fmt.Errorf("model.merges: entry %d: %q is shorter than the prefix %q", rank, p[1], m.prefix)
		}
		to, okTo := m.ids[p[0]+p[1][len(m.prefix):]]
		if !okLeft || !okRight || !okTo {
			return fmt.Errorf("model.merges: entry %d joins %q and %q, but the vocabulary lacks one of them or the result", rank, p[0], p[1])
		}
		key := pairKey(left, right)
		if _, again := m.merges[key]; !again {
			m.merges[key] = merge{int32(rank), to}
		}
	}
	return nil
}

// byteIDs finds "<0x00>" to "<0xFF>"; nil unless all are there.
func byteIDs(ids map[string]int32) *[256]int32 {
	var out [256]int32
	for b := range 256 {
		id, ok := ids[fmt.Sprintf("<0x%02X>", b)]
		if !ok {
			return nil
		}
		out[b] = id
	}
	return &out
}

func (m *bpe) vocab() map[string]int32 { return m.ids }

// encode appends the ids of piece; time O(n log n) in its length.
func (m *bpe) encode(dst []int32, piece string) ([]int32, error) {
	if m.ignoreMerges {
		if id, ok := m.ids[piece]; ok {
			return append(dst, id), nil
		}
	}
	start := len(dst)
	dst, err := m.characters(dst, piece)
	if err != nil {
		return nil, err
	}
	merged := m.merge(dst[start:])
	return dst[:start+merged], nil
}

// characters appends the id of every character of piece.
func (m *bpe) characters(dst []int32, piece string) ([]int32, error) {
	wasUnk := false
	for i := 0; i < len(piece); {
		_, size := utf8.DecodeRuneInString(piece[i:])
		raw := piece[i : i+size]
		symbol := raw
		if i > 0 && m.prefix != "" {
			symbol = m.prefix + symbol
		}
		if i+size == len(piece) && m.suffix != "" {
			symbol += m.suffix
		}
		i += size
		if id, ok := m.ids[symbol]; ok {
			dst, wasUnk = append(dst, id), false
			continue
		}
		if m.byteID != nil {
			for k := range len(symbol) {
				dst = append(dst, m.byteID[symbol[k]])
			}
			wasUnk = false
			continue
		}
		if m.unk < 0 {
			return nil, fmt.Errorf("encode: the vocabulary has neither %q nor an unknown token", raw)
		}
		if !wasUnk || !m.fuseUnk {
			dst = append(dst, m.unk)
		}
		wasUnk = true
	}
	return dst, nil
}

// shortWord is where the linear search for the best pair stops paying off against the heap (BenchmarkEncode).
const shortWord = 32

// merge applies the merges to ids in place and returns the new length.
func (m *bpe) merge(ids []int32) int {
	if len(ids) > shortWord {
		return m.mergeLong(ids)
	}
	n := len(ids)
	for n > 1 {
		best, where := merge{rank: -1}, 0
		for i := range n - 1 {
			if c, ok := m.merges[pairKey(ids[i], ids[i+1])]; ok && (best.rank < 0 || c.rank < best.rank) {
				best, where = c, i
			}
		}
		if best.rank < 0 {
			break
		}
		ids[where] = best.to
		copy(ids[where+1:n-1], ids[where+2:n])
		n--
	}
	return n
}

// candidate is a possible merge of the symbol at pos with its right neighbour.
type candidate struct {
	merge
	pos   int32
	left  int32
	right int32
}

type candidates []candidate

func (h candidates) Len() int { return len(h) }
func (h candidates) Less(i, j int) bool {
	return h[i].rank < h[j].rank || (h[i].rank == h[j].rank && h[i].pos < h[j].pos)
}
func (h candidates) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *candidates) Push(x any)   { *h = append(*h, x.(candidate)) }
func (h *candidates) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// mergeLong keeps the symbols as a linked list and the possible merges in a heap; stale entries are recognised by their ids.
func (m *bpe) mergeLong(ids []int32) int {
	n := int32(len(ids))
	next, prev := make([]int32, n), make([]int32, n)
	var queue candidates
	consider := func(i int32, add func(candidate)) {
		if i < 0 || next[i] >= n {
			return
		}
		left, right := ids[i], ids[next[i]]
		if c, ok := m.merges[pairKey(left, right)]; ok {
			add(candidate{c, i, left, right})
		}
	}
	for i := range n {
		next[i], prev[i] = i+1, i-1
	}
	for i := range n {
		consider(i, func(c candidate) { queue = append(queue, c) })
	}
	heap.Init(&queue)
	for len(queue) > 0 {
		c := heap.Pop(&queue).(candidate)
		i := c.pos
		if ids[i] != c.left || next[i] >= n || ids[next[i]] != c.right {
			continue
		}
		gone := next[i]
		ids[i], ids[gone] = c.to, -1
		next[i] = next[gone]
		if next[i] < n {
			prev[next[i]] = i
		}
		consider(prev[i], func(c candidate) { heap.Push(&queue, c) })
		consider(i, func(c candidate) { heap.Push(&queue, c) })
	}
	out := 0
	for i := int32(0); i < n; i = next[i] {
		ids[out] = ids[i]
		out++
	}
	return out
}
