package data

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxTokens bounds one example: lengths are 32-bit.
const maxTokens = 1<<31 - 1

// openTokens returns the token cache of the files at path, building it where there is none.
func (o Options) openTokens(ctx context.Context, path string) (store *tokenStore, notes []string, err error) {
	files, notes, err := listFiles(path)
	if err != nil {
		return nil, nil, err
	}
	dir, err := o.cacheDir()
	if err != nil {
		return nil, nil, err
	}
	identity, err := identify(ctx, files)
	if err != nil {
		return nil, nil, err
	}
	chat := ""
	if o.Chat != nil {
		chat = o.Chat.Source()
	}
	key := keyOf(cacheFormat, identity, o.Tokenizer.Fingerprint(), chat)
	cache := filepath.Join(dir, "tokens-"+key+".polar")
	store, err = openStore(ctx, cache)
	if errors.Is(err, errCorrupt) {
		notes = append(notes, fmt.Sprintf("%s was damaged and is rebuilt", cache))
	} else if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return store, notes, err
	}
	if err := o.buildTokens(ctx, cache, files); err != nil {
		return nil, nil, err
	}
	store, err = openStore(ctx, cache)
	return store, notes, err
}

// cacheDir makes and returns the cache folder.
func (o Options) cacheDir() (string, error) {
	dir := o.CacheDir
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("data: no cache folder: %w", err)
		}
		dir = filepath.Join(base, "polar")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("data: cache folder: %w", err)
	}
	return dir, nil
}

// keyOf hashes what a cache depends on.
func keyOf(parts ...any) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%q\n", fmt.Sprint(p))
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

// builder writes a token cache.
type builder struct {
	ctx     context.Context
	o       Options
	encoder *encoder
	out     *containerWriter
	index   *spool
	meta    tokenMeta
	scratch []byte
	also    map[string]bool // warnings given
	done    int64           // bytes of the files before the present one
	total   int64
}

func (o Options) buildTokens(ctx context.Context, cache string, files []source) error {
	index, err := newSpool(filepath.Dir(cache))
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer index.remove()
	b := &builder{ctx: ctx, o: o, encoder: newEncoder(o.Tokenizer, o.Chat), index: index, also: map[string]bool{}}
	b.meta.Plain = files[0].format == formatText
	if b.meta.Width = 4; o.Tokenizer.VocabSize() <= narrowVocabulary {
		b.meta.Width = 2
	}
	for _, f := range files {
		b.total += f.size
		b.meta.Files = append(b.meta.Files, f.path)
	}
	var wrong error
	err = writeContainer(cache, func(out *containerWriter) (any, error) {
		b.out = out
		for i, f := range files {
			if wrong = b.file(i, f); wrong != nil {
				return nil, wrong
			}
			b.done += f.size
			b.progress(0)
		}
		if err := index.copyTo(out); err != nil {
			return nil, err
		}
		b.meta.Hash = out.sum()
		return b.meta, nil
	})
	if wrong != nil {
		return wrong // about the data, not about the cache file
	}
	if err != nil {
		return fmt.Errorf("data: token cache: %w", err)
	}
	return nil
}

func (b *builder) progress(at int64) {
	if b.o.Progress != nil {
		b.o.Progress(min(b.done+at, b.total), b.total)
	}
}

// file adds one file; its errors name the file and the line.
func (b *builder) file(i int, f source) error {
	file, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	defer file.Close()
	in := &counter{in: contextReader{b.ctx, file}}
	before := b.meta.Examples
	switch f.format {
	case formatText:
		err = b.text(in)
	case formatJSONL:
		err = jsonRows(in, func(r row, line int64) error {
			if line%256 == 0 {
				b.progress(in.n)
			}
			return b.example(i, line, r)
		})
	case formatParquet:
		err = parquetRows(file, f.size, func(r row, number, at int64) error {
			if number%256 == 0 {
				if err := b.ctx.Err(); err != nil {
					return err
				}
				b.progress(at)
			}
			return b.example(i, number, r)
		})
	}
	if err == nil && f.format != formatText && b.meta.Examples == before {
		err = fmt.Errorf("no rows; %s", wantKeys)
	}
	var cache cacheError
	if errors.As(err, &cache) {
		return fmt.Errorf("data: token cache: %w", cache)
	}
	return placed(f.path, err)
}

// counter counts what was read.
type counter struct {
	in io.Reader
	n  int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n += int64(n)
	return n, err
}

// text adds a file of plain text: special tokens around the whole of it.
func (b *builder) text(in *counter) error {
	if err := b.tokens(b.encoder.prefix, nil); err != nil {
		return err
	}
	before := b.meta.Tokens
	err := textPieces(in, pieceBytes, func(piece string, line int64) error {
		ids, err := b.o.Tokenizer.Encode(piece, false)
		if err != nil {
			return b.textError(piece, line, err)
		}
		b.progress(in.n)
		return b.tokens(ids, nil)
	})
	if err != nil {
		return err
	}
	if b.meta.Tokens == before {
		return errors.New("the text is empty")
	}
	b.meta.Examples = 0
	return b.tokens(b.encoder.suffix, nil)
}

// textError finds the line of a piece that the tokenizer refuses.
func (b *builder) textError(piece string, line int64, whole error) error {
	for i, text := range strings.SplitAfter(piece, "\n") {
		if _, err := b.o.Tokenizer.Encode(text, false); err != nil {
			return lineError{line + int64(i), err}
		}
	}
	return lineError{line, whole}
}

// example adds one row.
func (b *builder) example(file int, line int64, r row) error {
	if r.also != "" && !b.also[r.also] {
		b.also[r.also] = true
		b.meta.Warnings = append(b.meta.Warnings, fmt.Sprintf("%s:%d: %s", b.meta.Files[file], line, r.also))
	}
	ids, trained, err := b.encoder.encode(r)
	if err != nil {
		return err
	}
	if len(ids) > maxTokens {
		return fmt.Errorf("the row has %d tokens, more than %d; cut it into several rows", len(ids), maxTokens)
	}
	rec := record{offset: b.meta.Tokens, length: uint32(len(ids)), chunk: r.form == formText, file: file, line: line}
	for i := len(ids) - 1; i > 0; i-- {
		if trained[i] {
			rec.trained++
			rec.first = uint32(i)
		}
	}
	if rec.trained == 0 {
		return errors.New("every label is masked, nothing to train on; remove the row")
	}
	h := fnv.New64a()
	if err := b.tokens(ids, trained); err != nil {
		return err
	}
	_, _ = h.Write(b.scratch)
	rec.hash = h.Sum64()
	b.meta.Examples++
	if _, err = b.index.out.Write(rec.append(nil)); err != nil {
		return cacheError{err}
	}
	return nil
}

// tokens appends ids to the first section; trained nil marks all. What was written stays in scratch.
func (b *builder) tokens(ids []int, trained []bool) error {
	vocabulary := b.o.Tokenizer.VocabSize()
	b.scratch = b.scratch[:0]
	for i, id := range ids {
		if id < 0 || id >= vocabulary {
			return fmt.Errorf("the tokenizer gave id %d, outside its vocabulary of %d", id, vocabulary)
		}
		mark := uint32(0)
		if trained == nil || trained[i] {
			mark = 1 << (8*b.meta.Width - 1)
		}
		if b.meta.Width == 2 {
			b.scratch = binary.LittleEndian.AppendUint16(b.scratch, uint16(uint32(id)|mark))
		} else {
			b.scratch = binary.LittleEndian.AppendUint32(b.scratch, uint32(id)|mark)
		}
	}
	b.meta.Tokens += int64(len(ids))
	if _, err := b.out.Write(b.scratch); err != nil {
		return cacheError{err}
	}
	return nil
}

// cacheError is a failure to write the cache, no fault of the data.
type cacheError struct{ error }

func (e cacheError) Unwrap() error { return e.error }
