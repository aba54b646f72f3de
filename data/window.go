package data

// windowSource is a stretch of plain text, cut into windows that follow one another.
type windowSource struct {
	store      *tokenStore
	start, end int64 // tokens
	length     int
	files      int64
}

// rows is the number of whole windows: each needs one token more, its last target.
func (s *windowSource) rows() int64 { return max(0, (s.end-s.start-1)/int64(s.length)) }

func (s *windowSource) fill(b Batch, at int, row int64) error {
	return s.window(b, at, s.start+row*int64(s.length))
}

// offsets is the number of places where a window can begin.
func (s *windowSource) offsets() int64 { return s.end - s.start - int64(s.length) }

func (s *windowSource) window(b Batch, at int, offset int64) error {
	ids := make([]int32, b.Length+1)
	if err := s.store.tokens(offset, ids, nil); err != nil {
		return err
	}
	from := at * b.Length
	copy(b.Tokens[from:from+b.Length], ids[:b.Length])
	copy(b.Targets[from:from+b.Length], ids[1:])
	for i := range b.Length {
		b.Weights[from+i] = 1
	}
	return nil
}

func (s *windowSource) stats() Stats {
	tokens := s.rows() * int64(s.length)
	return Stats{Source: s.files, Rows: s.rows(), Tokens: tokens, TrainedTokens: tokens, Dropped: s.end - s.start - 1 - tokens, Efficiency: 1}
}

func (s *windowSource) close() error { return nil }
