package data

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/polargo/polar/tokenizer"
)

// rowReader is what a split draws from: windows of text or rows of examples.
type rowReader interface {
	rows() int64
	fill(b Batch, at int, row int64) error // into row `at` of b
	stats() Stats
	close() error
}

// Split is the training or the validation part of a corpus; safe for concurrent use.
type Split struct {
	from   rowReader
	tok    tokenizer.Tokenizer
	length int
	packed bool
	random bool // windows at random offsets
	seed   int64
	pad    int32
}

// Rows is the number of rows of an epoch.
func (s *Split) Rows() int64 { return s.from.rows() }

// Batches is the number of batches that Windows yields.
func (s *Split) Batches(rows int) int { return s.StepsPerEpoch(rows) }

// StepsPerEpoch is the number of steps after which every row was seen: Rows divided by rows, rounded up.
func (s *Split) StepsPerEpoch(rows int) int {
	return int((s.Rows() + int64(max(rows, 1)) - 1) / int64(max(rows, 1)))
}

// Stats counts the split.
func (s *Split) Stats() Stats { return s.from.stats() }

// Batch returns the rows of a step from 0 on, a pure function of (seed, step, rows). Row r of a step is row step·rows + r of the
// sequence of epochs, each a seeded permutation of all rows; with SamplingWindows it begins at an offset drawn by a PCG seeded
// with (seed, step).
func (s *Split) Batch(step int64, rows int) (Batch, error) {
	if step < 0 || rows < 1 || step > math.MaxInt64/int64(rows)-1 {
		return Batch{}, fmt.Errorf("data: batch of %d rows at step %d: rows must be positive and the step not negative", rows, step)
	}
	b := s.empty(rows)
	if s.random {
		return b, s.randomWindows(b, step)
	}
	n := s.Rows()
	if n == 0 {
		return Batch{}, errors.New("data: the split is empty")
	}
	epoch := int64(-1)
	var order permutation
	for r := range rows {
		at := step*int64(rows) + int64(r)
		if at/n != epoch {
			epoch = at / n
			order = newPermutation(n, s.seed, epoch)
		}
		if err := s.from.fill(b, r, order.at(at%n)); err != nil {
			return Batch{}, err
		}
	}
	return b, nil
}

func (s *Split) empty(rows int) Batch { return newBatch(rows, s.length, s.pad, s.packed) }

func (s *Split) randomWindows(b Batch, step int64) error {
	text, ok := s.from.(*windowSource)
	if !ok {
		return errors.New("data: random windows need plain text")
	}
	pcg := rand.NewPCG(uint64(s.seed), uint64(step))
	for r := range b.Rows {
		// The product's upper half is uniform up to offsets/2^64.
		offset, _ := bits.Mul64(pcg.Uint64(), uint64(text.offsets()))
		if err := text.window(b, r, text.start+int64(offset)); err != nil {
			return err
		}
	}
	return nil
}

// Windows yields every row once, in the same order each time; the last batch is filled up with rows of weight 0.
func (s *Split) Windows(rows int) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		if rows < 1 {
			yield(Batch{}, fmt.Errorf("data: batches of %d rows", rows))
			return
		}
		for at, n := int64(0), s.Rows(); at < n; at += int64(rows) {
			b := s.empty(rows)
			for r := range min(int64(rows), n-at) {
				if err := s.from.fill(b, int(r), at+r); err != nil {
					yield(Batch{}, err)
					return
				}
			}
			if !yield(b, nil) {
				return
			}
		}
	}
}

// Hash is the hash of a step's batch, for comparing a replay with what was trained on.
func (s *Split) Hash(step int64, rows int) (string, error) {
	b, err := s.Batch(step, rows)
	if err != nil {
		return "", err
	}
	return b.Hash(), nil
}
