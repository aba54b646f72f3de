package data

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// openRows is how many unfinished rows packing keeps: a piece goes into the first with room, and the oldest is closed when
// there are more. More rows waste less and cost more; at 64 first-fit leaves about 2 % of typical chat data empty.
const openRows = 64

// piece is a stretch of an example inside a row: its tokens are the inputs, but for the last, and from the second on the targets.
type piece struct {
	offset  int64
	example int64
	length  uint32 // tokens, one more than the slots it fills
}

const pieceBytesOnDisk = 8 + 8 + 4

func (p piece) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(p.offset))
	b = binary.LittleEndian.AppendUint64(b, uint64(p.example))
	return binary.LittleEndian.AppendUint32(b, p.length)
}

func parsePiece(b []byte) piece {
	return piece{offset: int64(binary.LittleEndian.Uint64(b)), example: int64(binary.LittleEndian.Uint64(b[8:])), length: binary.LittleEndian.Uint32(b[16:])}
}

// rowMeta describes a layout file: sections pieces, row by row, and the index of each row's first piece [Rows+1 uint64].
type rowMeta struct {
	Pieces int64
	Stats  Stats
}

// member tells which examples belong to a split.
type member func(i int64, r record) bool

// layoutBuilder assigns examples to rows.
type layoutBuilder struct {
	o       Options
	store   *tokenStore
	out     *containerWriter
	starts  *spool
	meta    rowMeta
	open    []openRow
	refused int64  // examples without a trained token in their row
	first   string // the first of them
	firstAt int64
}

type openRow struct {
	room   int
	pieces []piece
}

// openLayout returns the layout of a split of the store, building it where there is none. A seed orders the examples; nil keeps
// the order of the files. name tells splits of one store apart in the cache.
func (o Options) openLayout(ctx context.Context, store *tokenStore, name string, seed *int64, in member) (*rowSource, error) {
	dir, err := o.cacheDir()
	if err != nil {
		return nil, err
	}
	key := keyOf(cacheFormat, store.Hash, o.Length, o.Packing, o.TrainOnPrompt, o.ValidationFraction, o.ValidationPath != "", o.Seed, name)
	cache := filepath.Join(dir, "rows-"+key+".polar")
	rows, err := o.readLayout(ctx, store, cache)
	if err == nil || !(errors.Is(err, errCorrupt) || errors.Is(err, fs.ErrNotExist)) {
		return rows, err
	}
	starts, err := newSpool(dir)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	defer starts.remove()
	b := &layoutBuilder{o: o, store: store, starts: starts}
	var wrong error
	err = writeContainer(cache, func(out *containerWriter) (any, error) {
		b.out = out
		if wrong = b.build(ctx, seed, in); wrong != nil {
			return nil, wrong
		}
		if err := b.boundary(); err != nil {
			return nil, err
		}
		return &b.meta, starts.copyTo(out)
	})
	var full cacheError
	if wrong != nil && !errors.As(wrong, &full) {
		return nil, wrong
	}
	if err != nil {
		return nil, fmt.Errorf("data: row cache: %w", err)
	}
	return o.readLayout(ctx, store, cache)
}

func (o Options) readLayout(ctx context.Context, store *tokenStore, cache string) (*rowSource, error) {
	rows := &rowSource{store: store, length: o.Length, packed: o.Packing, trainAll: o.TrainOnPrompt}
	file, sections, err := openContainer(ctx, cache, &rows.rowMeta)
	if err != nil {
		return nil, err
	}
	if rows.Pieces*pieceBytesOnDisk+(rows.Stats.Rows+1)*8 != sections {
		_ = file.Close()
		return nil, errCorrupt
	}
	rows.file = file
	return rows, nil
}

// build walks over the examples of the split and closes all rows.
func (b *layoutBuilder) build(ctx context.Context, seed *int64, in member) error {
	n := b.store.Examples
	var err error
	if seed == nil {
		err = b.store.records(ctx, func(i int64, r record) error {
			if in(i, r) {
				return b.example(i, r)
			}
			return nil
		})
	} else {
		order := newPermutation(n, *seed, -1)
		for k := int64(0); k < n && err == nil; k++ {
			var r record
			i := order.at(k)
			if r, err = b.store.record(i); err == nil && in(i, r) {
				err = b.example(i, r)
			}
			if err == nil && k%1024 == 0 {
				err = ctx.Err()
			}
		}
	}
	if err != nil {
		return err
	}
	if b.refused > 0 {
		more := ""
		if b.refused > 1 {
			more = fmt.Sprintf(" (and %d more such rows)", b.refused-1)
		}
		return fmt.Errorf("data: %s%s", b.first, more)
	}
	for len(b.open) > 0 {
		if err := b.closeRow(0); err != nil {
			return err
		}
	}
	s := &b.meta.Stats
	if s.Rows > 0 {
		s.Efficiency = float64(s.Tokens) / (float64(s.Rows) * float64(b.o.Length))
	}
	return nil
}

// example cuts an example into pieces and places them.
func (b *layoutBuilder) example(i int64, r record) error {
	most := uint32(min(b.o.Length+1, maxTokens))
	first, trained := r.first, int64(r.trained)
	if b.o.TrainOnPrompt {
		first, trained = 1, int64(r.length)-1
	}
	s := &b.meta.Stats
	s.Source++
	if r.length <= most {
		s.TrainedTokens += trained
		return b.place(piece{r.offset, i, r.length})
	}
	if r.chunk {
		s.Chunked++
		s.TrainedTokens += trained
		for at := uint32(0); at+1 < r.length; at += most - 1 {
			if err := b.place(piece{r.offset + int64(at), i, min(most, r.length-at)}); err != nil {
				return err
			}
		}
		return nil
	}
	if first >= most {
		b.refuse(i, r, first)
		return nil
	}
	s.Truncated++
	s.TruncatedTokens += int64(r.length - most)
	trained = int64(most) - 1
	if !b.o.TrainOnPrompt {
		var err error
		if trained, err = b.countTrained(r.offset+1, int(most)-1); err != nil {
			return err
		}
	}
	s.TrainedTokens += trained
	return b.place(piece{r.offset, i, most})
}

// refuse keeps the first example, in the order of the files, whose trained tokens all lie behind the cut.
func (b *layoutBuilder) refuse(i int64, r record, first uint32) {
	if b.refused++; b.refused > 1 && i > b.firstAt {
		return
	}
	b.firstAt = i
	b.first = fmt.Sprintf("%s: every label is masked: the prompt has %d tokens and a row takes %d; use --length %d or more, or shorten the prompt",
		b.store.where(r), first, b.o.Length, first)
}

func (b *layoutBuilder) countTrained(offset int64, n int) (count int64, err error) {
	ids, marks := make([]int32, n), make([]bool, n)
	if err := b.store.tokens(offset, ids, marks); err != nil {
		return 0, err
	}
	for _, m := range marks {
		if m {
			count++
		}
	}
	return count, nil
}

// place puts a piece into the first open row with room, or opens one.
func (b *layoutBuilder) place(p piece) error {
	slots := int(p.length) - 1
	b.meta.Stats.Tokens += int64(slots)
	at := -1
	if b.o.Packing {
		at = slices.IndexFunc(b.open, func(r openRow) bool { return r.room >= slots })
	}
	if at < 0 {
		at = len(b.open)
		b.open = append(b.open, openRow{room: b.o.Length})
	}
	b.open[at].room -= slots
	b.open[at].pieces = append(b.open[at].pieces, p)
	switch {
	case b.open[at].room == 0 || !b.o.Packing:
		return b.closeRow(at)
	case len(b.open) > openRows:
		return b.closeRow(0)
	}
	return nil
}

// boundary notes where the next row's pieces begin.
func (b *layoutBuilder) boundary() error {
	if _, err := b.starts.out.Write(binary.LittleEndian.AppendUint64(nil, uint64(b.meta.Pieces))); err != nil {
		return cacheError{err}
	}
	return nil
}

func (b *layoutBuilder) closeRow(at int) error {
	if err := b.boundary(); err != nil {
		return err
	}
	for _, p := range b.open[at].pieces {
		if _, err := b.out.Write(p.append(nil)); err != nil {
			return cacheError{err}
		}
		b.meta.Pieces++
	}
	b.meta.Stats.Rows++
	b.open = slices.Delete(b.open, at, at+1)
	return nil
}

// rowSource reads the rows of a layout; safe for concurrent use.
type rowSource struct {
	rowMeta
	store            *tokenStore
	file             *os.File
	length           int
	packed, trainAll bool
}

func (s *rowSource) rows() int64 { return s.Stats.Rows }

func (s *rowSource) stats() Stats { return s.Stats }

// pieces returns the pieces of a row.
func (s *rowSource) pieces(row int64) ([]piece, error) {
	var ends [16]byte
	if _, err := s.file.ReadAt(ends[:], s.Pieces*pieceBytesOnDisk+row*8); err != nil {
		return nil, fmt.Errorf("data: read cache %s: %w", s.file.Name(), err)
	}
	from, to := int64(binary.LittleEndian.Uint64(ends[:])), int64(binary.LittleEndian.Uint64(ends[8:]))
	raw := make([]byte, (to-from)*pieceBytesOnDisk)
	if _, err := s.file.ReadAt(raw, from*pieceBytesOnDisk); err != nil {
		return nil, fmt.Errorf("data: read cache %s: %w", s.file.Name(), err)
	}
	pieces := make([]piece, to-from)
	for i := range pieces {
		pieces[i] = parsePiece(raw[i*pieceBytesOnDisk:])
	}
	return pieces, nil
}

// fill writes a row of the layout into row `at` of b.
func (s *rowSource) fill(b Batch, at int, row int64) error {
	pieces, err := s.pieces(row)
	if err != nil {
		return err
	}
	next := at * b.Length
	for k, p := range pieces {
		ids, marks := make([]int32, p.length), make([]bool, p.length)
		if err := s.store.tokens(p.offset, ids, marks); err != nil {
			return err
		}
		for i := range int(p.length) - 1 {
			b.Tokens[next], b.Targets[next] = ids[i], ids[i+1]
			if marks[i+1] || s.trainAll {
				b.Weights[next] = 1
			}
			if b.Segments != nil {
				b.Segments[next], b.Positions[next] = int32(k+1), int32(i)
			}
			next++
		}
	}
	return nil
}

func (s *rowSource) close() error { return s.file.Close() }
