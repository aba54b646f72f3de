package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"unicode/utf8"
)

// unkPenalty is how far below the worst piece SentencePiece scores an unknown character (unigram_model.cc, kUnkPenalty).
const unkPenalty = 10

type unigramJSON struct {
	UnkID        *int              `json:"unk_id"`
	Vocab        []json.RawMessage `json:"vocab"`
	ByteFallback bool              `json:"byte_fallback"`
}

// unigram chooses the segmentation with the largest sum of scores (Kudo 2018, arXiv 1804.10959) by the Viterbi algorithm.
type unigram struct {
	ids    map[string]int32
	scores []float64
	trie   map[uint64]int32 // node<<8 | byte -> node; node 0 is the root
	final  []int32          // node -> id, -1 inside a piece
	unk    int32            // -1: none
	unkAt  float64
	byteID *[256]int32
}

func newUnigram(raw json.RawMessage) (*unigram, error) {
	var j unigramJSON
	if err := decodeInto("model", raw, &j); err != nil {
		return nil, err
	}
	u := &unigram{ids: map[string]int32{}, trie: map[uint64]int32{}, final: []int32{-1}, unk: -1}
	worst := math.Inf(1)
	for i, entry := range j.Vocab {
		var token string
		var score float64
		if err := json.Unmarshal(entry, &[]any{&token, &score}); err != nil {
			return nil, fmt.Errorf("model.vocab: entry %d: want [piece, score]: %w", i, err)
		}
		worst = min(worst, score)
		u.scores = append(u.scores, score)
		if _, again := u.ids[token]; !again && token != "" {
			u.ids[token] = int32(i)
			u.insert(token, int32(i))
		}
	}
	if j.UnkID != nil {
		if *j.UnkID < 0 || *j.UnkID >= len(j.Vocab) {
			return nil, fmt.Errorf("model.unk_id is %d, but the vocabulary has %d pieces", *j.UnkID, len(j.Vocab))
		}
		u.unk = int32(*j.UnkID)
	}
	u.unkAt = worst - unkPenalty
	if j.ByteFallback {
		u.byteID = byteIDs(u.ids)
	}
	return u, nil
}

func (u *unigram) insert(token string, id int32) {
	node := int32(0)
	for i := range len(token) {
		key := uint64(node)<<8 | uint64(token[i])
		next, ok := u.trie[key]
		if !ok {
			next = int32(len(u.final))
			u.final = append(u.final, -1)
			u.trie[key] = next
		}
		node = next
	}
	u.final[node] = id
}

func (u *unigram) vocab() map[string]int32 { return u.ids }

// step is the best way to reach a byte offset.
type step struct {
	score float64
	from  int32 // -1: not reached
	id    int32
}

// encode appends the ids of piece; unknown characters side by side become one unknown token (or their bytes).
func (u *unigram) encode(dst []int32, piece string) ([]int32, error) {
	best := make([]step, len(piece)+1)
	for i := range best {
		best[i].from = -1
	}
	best[0].from = 0
	for i := 0; i < len(piece); {
		_, size := utf8.DecodeRuneInString(piece[i:])
		u.extend(best, piece, i, size)
		i += size
	}
	var path []step // backwards; score unused
	for end := len(piece); end > 0; end = int(best[end].from) {
		path = append(path, step{from: int32(end), id: best[end].id})
	}
	begin := 0
	for i := len(path) - 1; i >= 0; i-- {
		end := int(path[i].from)
		if path[i].id == u.unk {
			for i > 0 && path[i-1].id == u.unk {
				i--
				end = int(path[i].from)
			}
		}
		var err error
		if dst, err = u.emit(dst, path[i].id, piece[begin:end]); err != nil {
			return nil, err
		}
		begin = end
	}
	return dst, nil
}

// extend relaxes every piece that begins at i, and the unknown character of size bytes if no piece is exactly that character.
func (u *unigram) extend(best []step, piece string, i, size int) {
	node, single := int32(0), false
	relax := func(end int, score float64, id int32) {
		if best[end].from < 0 || score > best[end].score {
			best[end] = step{score, int32(i), id}
		}
	}
	for k := i; k < len(piece); k++ {
		next, ok := u.trie[uint64(node)<<8|uint64(piece[k])]
		if !ok {
			break
		}
		node = next
		if id := u.final[node]; id >= 0 {
			relax(k+1, best[i].score+u.scores[id], id)
			single = single || k+1 == i+size
		}
	}
	if !single {
		relax(i+size, best[i].score+u.unkAt, u.unk)
	}
}

func (u *unigram) emit(dst []int32, id int32, text string) ([]int32, error) {
	switch {
	case id != u.unk:
		return append(dst, id), nil
	case u.byteID != nil:
		for i := range len(text) {
			dst = append(dst, u.byteID[text[i]])
		}
		return dst, nil
	case u.unk < 0:
		return nil, fmt.Errorf("encode: the vocabulary has neither %q nor an unknown token", text)
	}
	return append(dst, u.unk), nil
}
