package data

// A container is a cache file: sections of bytes, then JSON that describes them, then a trailer of trailerBytes:
// length of the JSON (uint64), CRC-32C of all before the trailer (uint32), containerMagic. Numbers are little-endian.

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"

	"github.com/polargo/polar/internal/atomicfile"
)

const (
	containerMagic = "POLARDATA\x00\x00\x01"
	trailerBytes   = 8 + 4 + len(containerMagic)
	ioBytes        = 1 << 20 // of a buffered read or write
)

// errCorrupt marks a cache file that must be rebuilt.
var errCorrupt = errors.New("damaged cache file")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// containerWriter writes sections and keeps their length and hash.
type containerWriter struct {
	out  *bufio.Writer
	crc  hash.Hash32
	hash hash.Hash
	n    int64
}

func (w *containerWriter) Write(p []byte) (int, error) {
	n, err := w.out.Write(p)
	_, _ = w.crc.Write(p[:n])
	_, _ = w.hash.Write(p[:n])
	w.n += int64(n)
	return n, err
}

// sum is the SHA-256 of what was written so far.
func (w *containerWriter) sum() string { return hex.EncodeToString(w.hash.Sum(nil)) }

// writeContainer writes path atomically; fill writes the sections and returns their description.
func writeContainer(path string, fill func(w *containerWriter) (meta any, err error)) error {
	return atomicfile.Write(path, func(out io.Writer) error {
		w := &containerWriter{out: bufio.NewWriterSize(out, ioBytes), crc: crc32.New(castagnoli), hash: sha256.New()}
		meta, err := fill(w)
		if err != nil {
			return err
		}
		text, err := json.Marshal(meta)
		if err != nil {
			return err
		}
		if _, err = w.Write(text); err != nil {
			return err
		}
		trailer := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
		trailer = binary.LittleEndian.AppendUint32(trailer, w.crc.Sum32())
		if _, err = w.out.Write(append(trailer, containerMagic...)); err != nil {
			return err
		}
		return w.out.Flush()
	})
}

// openContainer opens path, checks all of it, and decodes its description into meta; sections is the length of the rest.
// The error wraps errCorrupt where the content is not what was written.
func openContainer(ctx context.Context, path string, meta any) (file *os.File, sections int64, err error) {
	if file, err = os.Open(path); err != nil {
		return nil, 0, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			file = nil
		}
	}()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	body := info.Size() - int64(trailerBytes)
	trailer := make([]byte, trailerBytes)
	if body < 0 {
		return nil, 0, errCorrupt
	}
	if _, err = file.ReadAt(trailer, body); err != nil {
		return nil, 0, err
	}
	size := binary.LittleEndian.Uint64(trailer)
	if string(trailer[12:]) != containerMagic || size > uint64(body) {
		return nil, 0, errCorrupt
	}
	if err = checkSum(ctx, file, body, binary.LittleEndian.Uint32(trailer[8:])); err != nil {
		return nil, 0, err
	}
	sections = body - int64(size)
	text := make([]byte, size)
	if _, err = file.ReadAt(text, sections); err != nil && !(errors.Is(err, io.EOF) && size == 0) {
		return nil, 0, err
	}
	if err = json.Unmarshal(text, meta); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	return file, sections, nil
}

func checkSum(ctx context.Context, file io.ReaderAt, body int64, want uint32) error {
	crc := crc32.New(castagnoli)
	buffer := make([]byte, ioBytes)
	for at := int64(0); at < body; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := file.ReadAt(buffer[:min(body-at, ioBytes)], at)
		if n == 0 && err != nil {
			return err
		}
		_, _ = crc.Write(buffer[:n])
		at += int64(n)
	}
	if crc.Sum32() != want {
		return errCorrupt
	}
	return nil
}

// spool is a section that grows beside another one: a temporary file in the cache folder.
type spool struct {
	file *os.File
	out  *bufio.Writer
}

func newSpool(dir string) (*spool, error) {
	file, err := os.CreateTemp(dir, "spool-*.tmp")
	if err != nil {
		return nil, err
	}
	return &spool{file: file, out: bufio.NewWriterSize(file, ioBytes)}, nil
}

// copyTo appends the spool to w.
func (s *spool) copyTo(w io.Writer) error {
	if err := s.out.Flush(); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := io.Copy(w, s.file)
	return err
}

func (s *spool) remove() {
	_ = s.file.Close()
	_ = os.Remove(s.file.Name())
}
