package data

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// Corpus is an opened data set.
type Corpus struct {
	options     Options
	train       *Split
	validation  *Split
	plain       bool
	notes, warn []string
	hashes      []string
	stores      []*tokenStore
}

// Open reads and tokenises the files of options.Path, or finds them in the cache, and lays them out in rows. Errors about the
// data name the file and the line. Cost: reading the cache once for its checksum; the first time, tokenising everything.
func Open(ctx context.Context, options Options) (*Corpus, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	c := &Corpus{options: options}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Corpus) open(ctx context.Context) error {
	training, err := c.load(ctx, c.options.Path)
	if err != nil {
		return err
	}
	c.plain = training.Plain
	if c.options.Sampling == SamplingWindows && !c.plain {
		return fmt.Errorf("data: sampling %q needs plain text; %s has rows", SamplingWindows, c.options.Path)
	}
	held := training
	if c.options.ValidationPath != "" {
		if held, err = c.load(ctx, c.options.ValidationPath); err != nil {
			return fmt.Errorf("validation data: %w", err)
		}
		if held.Plain != c.plain {
			return fmt.Errorf("data: training data %s and validation data %s must both be plain text or both rows", c.options.Path, c.options.ValidationPath)
		}
	}
	if c.plain {
		err = c.openText(training, held)
	} else {
		err = c.openRows(ctx, training, held)
	}
	if err == nil {
		c.report()
	}
	return err
}

// load resolves a path and opens its tokens.
func (c *Corpus) load(ctx context.Context, path string) (*tokenStore, error) {
	path, note, err := c.options.resolve(ctx, path)
	if err != nil {
		return nil, err
	}
	if note != "" {
		c.notes = append(c.notes, note)
	}
	store, notes, err := c.options.openTokens(ctx, path)
	if err != nil {
		return nil, err
	}
	c.stores = append(c.stores, store)
	c.notes = append(c.notes, notes...)
	c.warn = append(c.warn, store.Warnings...)
	c.hashes = append(c.hashes, store.Hash)
	return store, nil
}

// split returns a split of this corpus.
func (c *Corpus) split(from rowReader) *Split {
	s := &Split{from: from, tok: c.options.Tokenizer, length: c.options.Length, seed: c.options.Seed}
	s.packed = c.options.Packing && !c.plain
	s.random = c.options.Sampling == SamplingWindows
	if id, ok := c.options.Tokenizer.Pad(); ok {
		s.pad = int32(id)
	} else if id, ok := c.options.Tokenizer.EOS(); ok {
		s.pad = int32(id)
	}
	return s
}

// openText holds out the last part of a stream of text.
func (c *Corpus) openText(training, held *tokenStore) error {
	o := c.options
	cut := training.Tokens
	if held == training && o.ValidationFraction > 0 {
		cut = int64(float64(training.Tokens) * (1 - o.ValidationFraction))
	}
	source := func(store *tokenStore, from, to int64) *windowSource {
		return &windowSource{store: store, start: from, end: to, length: o.Length, files: int64(len(store.Files))}
	}
	need := int64(o.Length) + 1
	if cut < need {
		return fmt.Errorf("data: the training text has %d tokens; one row of length %d needs %d: give more text or a smaller --length", cut, o.Length, need)
	}
	c.train = c.split(source(training, 0, cut))
	switch {
	case held != training:
		if held.Tokens < need {
			return fmt.Errorf("data: the validation text has %d tokens; one row of length %d needs %d: give more text or a smaller --length", held.Tokens, o.Length, need)
		}
		c.validation = c.split(source(held, 0, held.Tokens))
	case o.ValidationFraction > 0:
		if left := training.Tokens - cut; left < need {
			return fmt.Errorf("data: the validation part (%v of %d tokens) has %d tokens; one row of length %d needs %d: give more text, a larger --validation-fraction or a smaller --length",
				o.ValidationFraction, training.Tokens, left, o.Length, need)
		}
		c.validation = c.split(source(training, cut, training.Tokens))
	}
	return nil
}

// openRows holds out examples by their hash.
func (c *Corpus) openRows(ctx context.Context, training, held *tokenStore) error {
	o := c.options
	all := func(int64, record) bool { return true }
	isHeld := func(int64, record) bool { return false }
	var err error
	if held == training && o.ValidationFraction > 0 {
		if isHeld, err = heldOut(ctx, training, o.ValidationFraction, o.Seed); err != nil {
			return err
		}
	}
	rows, err := o.openLayout(ctx, training, "train", &o.Seed, func(i int64, r record) bool { return !isHeld(i, r) })
	if err != nil {
		return err
	}
	c.train = c.split(rows)
	switch {
	case held != training:
		rows, err = o.openLayout(ctx, held, "validation file", nil, all)
	case o.ValidationFraction > 0:
		rows, err = o.openLayout(ctx, training, "validation", nil, isHeld)
	default:
		return nil
	}
	if err == nil {
		c.validation = c.split(rows)
	}
	return err
}

// heldOut chooses the examples whose seeded hash falls below the fraction; at least one, and never all. Equal examples stay together.
func heldOut(ctx context.Context, store *tokenStore, fraction float64, seed int64) (member, error) {
	if store.Examples < 2 {
		return nil, fmt.Errorf("data: %d row cannot be split into training and validation data: give --validation-data or --validation-fraction 0", store.Examples)
	}
	limit := uint64(fraction * float64(math.MaxUint64))
	draw := func(r record) uint64 { return mix(r.hash ^ mix(uint64(seed))) }
	var count, least, most int64
	low, high := uint64(math.MaxUint64), uint64(0)
	err := store.records(ctx, func(i int64, r record) error {
		v := draw(r)
		if v < limit {
			count++
		}
		if v < low || i == 0 {
			low, least = v, i
		}
		if v >= high {
			high, most = v, i
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	switch count {
	case 0:
		return func(i int64, _ record) bool { return i == least }, nil
	case store.Examples:
		return func(i int64, _ record) bool { return i != most }, nil
	}
	return func(_ int64, r record) bool { return draw(r) < limit }, nil
}

// report turns what happened to the examples into warnings.
func (c *Corpus) report() {
	for _, part := range c.parts() {
		s := part.split.Stats()
		if s.Truncated > 0 {
			c.warn = append(c.warn, fmt.Sprintf("%s data: %d of %d examples are longer than %d tokens and are cut there (%d tokens lost); a larger --length keeps them",
				part.name, s.Truncated, s.Source, c.options.Length, s.TruncatedTokens))
		}
	}
}

type part struct {
	name  string
	split *Split
}

func (c *Corpus) parts() []part {
	parts := []part{{"training", c.train}}
	if c.validation != nil {
		parts = append(parts, part{"validation", c.validation})
	}
	return parts
}

// Describe says in a line a split what it holds.
func (c *Corpus) Describe() []string {
	var lines []string
	for _, p := range c.parts() {
		s := p.split.Stats()
		if c.plain {
			line := fmt.Sprintf("%s: %d tokens of plain text in %d rows of %d", p.name, s.Tokens+s.Dropped+1, s.Rows, c.options.Length)
			if s.Dropped > 0 {
				line += fmt.Sprintf(" (%d at the end fill no row)", s.Dropped)
			}
			lines = append(lines, line)
			continue
		}
		line := fmt.Sprintf("%s: %d examples, %d tokens, %d of them trained on, in %d rows of %d (%.1f %% filled)",
			p.name, s.Source, s.Tokens, s.TrainedTokens, s.Rows, c.options.Length, 100*s.Efficiency)
		if s.Truncated > 0 {
			line += fmt.Sprintf("; %d cut at %d tokens", s.Truncated, c.options.Length)
		}
		if s.Chunked > 0 {
			line += fmt.Sprintf("; %d long texts in several pieces", s.Chunked)
		}
		lines = append(lines, line)
	}
	return lines
}

// Train is the training part.
func (c *Corpus) Train() *Split { return c.train }

// Validation is the held-out part; nil where the fraction is 0 and no path was given.
func (c *Corpus) Validation() *Split { return c.validation }

// Notes are lines on what was read: a text used instead, files passed over, a cache rebuilt.
func (c *Corpus) Notes() []string { return c.notes }

// Warnings are Notes and lines that deserve attention: examples cut, keys unused.
func (c *Corpus) Warnings() []string { return append(append([]string(nil), c.notes...), c.warn...) }

// Fingerprint hashes everything that determines the batches: tokens, marks, options and seed. It does not depend on where the files are.
func (c *Corpus) Fingerprint() string {
	o := c.options
	return keyOf(cacheFormat, c.hashes, o.Length, o.Packing, o.TrainOnPrompt, o.ValidationFraction, o.Seed, c.train.random)
}

// Close releases the files. The splits must not be used afterwards.
func (c *Corpus) Close() error {
	var errs []error
	for _, s := range []*Split{c.train, c.validation} {
		if s != nil {
			errs = append(errs, s.from.close())
		}
	}
	for _, s := range c.stores {
		errs = append(errs, s.file.Close())
	}
	c.stores, c.train, c.validation = nil, nil, nil
	return errors.Join(errs...)
}
