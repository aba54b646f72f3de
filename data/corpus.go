package data

import (
	"context"
	"errors"
	"iter"
)

// Corpus is an opened data set.
type Corpus struct{}

// Open tokenises the files of options.Path once and lays them out in rows.
func Open(ctx context.Context, options Options) (*Corpus, error) { return nil, errors.New("data: not built yet") }

// Train is the training part.
func (c *Corpus) Train() *Split { return nil }

// Validation is the held-out part; nil where none was asked for.
func (c *Corpus) Validation() *Split { return nil }

// Notes are lines for the user on what was read (a fallback used, a cache rebuilt).
func (c *Corpus) Notes() []string { return nil }

// Warnings are lines that deserve attention (examples truncated, files ignored).
func (c *Corpus) Warnings() []string { return nil }

// Fingerprint hashes everything that determines the batches: tokens, layout options and seed.
func (c *Corpus) Fingerprint() string { return "" }

// Close releases the files.
func (c *Corpus) Close() error { return nil }

// Split is the training or the validation part of a corpus; safe for concurrent use.
type Split struct{}

// Batch returns the rows of a step, a pure function of (seed, step, rows).
func (s *Split) Batch(step int64, rows int) (Batch, error) { return Batch{}, nil }

// Windows yields every row once, in the order of the files; the last batch is filled up with rows of weight 0.
func (s *Split) Windows(rows int) iter.Seq2[Batch, error] { return func(func(Batch, error) bool) {} }

// Hash is the SHA-256 of a batch in hexadecimal digits.
func (s *Split) Hash(step int64, rows int) (string, error) { return "", nil }

// Example is the first training example as the loss sees it.
func (s *Split) Example() (Preview, error) { return Preview{}, nil }

// Stats counts the split.
func (s *Split) Stats() Stats { return Stats{} }

// Len is the number of rows of an epoch.
func (s *Split) Len() int64 { return 0 }

// StepsPerEpoch is the number of steps of `rows` rows that see every row at least once: Len/rows rounded up.
func (s *Split) StepsPerEpoch(rows int) int64 { return 0 }

// Characters returns the sorted distinct characters of the text in path, read as a stream: the alphabet of a character vocabulary.
func Characters(ctx context.Context, options Options) ([]rune, error) { return nil, nil }
