package data

// Segment is a stretch of text whose tokens all are, or all are not, trained on.
type Segment struct {
	Text    string
	Trained bool
}

// Preview is one example as the loss sees it.
type Preview struct {
	Where    string // file and line; empty for plain text
	Segments []Segment
}

// Preview returns the first example of the first training step: its tokens decoded, in stretches that are trained on or masked.
// The first token counts as the second one's stretch, as it is no target itself.
func (s *Split) Preview() (Preview, error) {
	b, err := s.Batch(0, 1)
	if err != nil {
		return Preview{}, err
	}
	n := b.Length
	if b.Segments != nil {
		for n > 1 && b.Segments[n-1] != 1 {
			n--
		}
	} else if rows, ok := s.from.(*rowSource); ok {
		pieces, err := rows.pieces(newPermutation(s.Rows(), s.seed, 0).at(0))
		if err != nil {
			return Preview{}, err
		}
		n = int(pieces[0].length) - 1
	}
	p := Preview{Where: s.firstPlace()}
	ids := []int{int(b.Tokens[0])}
	trained := b.Weights[0] > 0
	flush := func() { p.Segments = append(p.Segments, Segment{s.tok.Decode(ids), trained}) }
	for i := range n {
		if now := b.Weights[i] > 0; now != trained {
			flush()
			ids, trained = ids[:0], now
		}
		ids = append(ids, int(b.Targets[i]))
	}
	flush()
	return p, nil
}

// firstPlace names the example that Preview shows.
func (s *Split) firstPlace() string {
	rows, ok := s.from.(*rowSource)
	if !ok {
		return ""
	}
	pieces, err := rows.pieces(newPermutation(s.Rows(), s.seed, 0).at(0))
	if err != nil {
		return ""
	}
	r, err := rows.store.record(pieces[0].example)
	if err != nil {
		return ""
	}
	return rows.store.where(r)
}
