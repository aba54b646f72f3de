package data

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
)

// cacheFormat is part of every cache's key: raise it when what is written changes.
const cacheFormat = 1

// narrowVocabulary is the largest vocabulary whose tokens take two bytes: one bit is the mark of a trained token.
const narrowVocabulary = 1 << 15

// tokenMeta describes a token cache: sections tokens [Tokens·Width bytes] and examples [Examples·recordBytes].
type tokenMeta struct {
	Plain    bool     // one stream of text, no examples
	Width    int      // bytes a token: id, with the highest bit set where it is trained on
	Tokens   int64    // in all
	Examples int64    // rows of the files
	Files    []string // names for messages
	Warnings []string
	Hash     string // SHA-256 of both sections
}

// record is what the cache knows of an example.
type record struct {
	offset  int64  // of its first token
	hash    uint64 // of its tokens
	length  uint32 // tokens
	trained uint32 // trained tokens that can be targets (all but the first)
	first   uint32 // index of the first of them
	chunk   bool   // text: cut into pieces when long; others are truncated
	file    int    // in tokenMeta.Files
	line    int64
}

const recordBytes = 8 + 8 + 4 + 4 + 4 + 4 + 8

// where holds the file in its upper 20 bits and the line below.
const lineBits = 44

func (r record) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(r.offset))
	b = binary.LittleEndian.AppendUint64(b, r.hash)
	b = binary.LittleEndian.AppendUint32(b, r.length)
	b = binary.LittleEndian.AppendUint32(b, r.trained)
	b = binary.LittleEndian.AppendUint32(b, r.first)
	kind := uint32(0)
	if r.chunk {
		kind = 1
	}
	b = binary.LittleEndian.AppendUint32(b, kind)
	return binary.LittleEndian.AppendUint64(b, uint64(r.file)<<lineBits|uint64(r.line))
}

func parseRecord(b []byte) record {
	where := binary.LittleEndian.Uint64(b[32:])
	return record{
		offset: int64(binary.LittleEndian.Uint64(b)), hash: binary.LittleEndian.Uint64(b[8:]),
		length: binary.LittleEndian.Uint32(b[16:]), trained: binary.LittleEndian.Uint32(b[20:]), first: binary.LittleEndian.Uint32(b[24:]),
		chunk: binary.LittleEndian.Uint32(b[28:]) == 1, file: int(where >> lineBits), line: int64(where & (1<<lineBits - 1)),
	}
}

// tokenStore reads a token cache; safe for concurrent use.
type tokenStore struct {
	tokenMeta
	file *os.File
}

// openStore opens and checks a token cache.
func openStore(ctx context.Context, path string) (*tokenStore, error) {
	s := &tokenStore{}
	file, sections, err := openContainer(ctx, path, &s.tokenMeta)
	if err != nil {
		return nil, err
	}
	if s.file = file; (s.Width != 2 && s.Width != 4) || s.Tokens*int64(s.Width)+s.Examples*recordBytes != sections {
		_ = file.Close()
		return nil, errCorrupt
	}
	return s, nil
}

// tokens reads ids and marks from offset on, len(ids) of them; trained may be nil.
func (s *tokenStore) tokens(offset int64, ids []int32, trained []bool) error {
	raw := make([]byte, len(ids)*s.Width)
	if _, err := s.file.ReadAt(raw, offset*int64(s.Width)); err != nil {
		return fmt.Errorf("data: read cache %s: %w", s.file.Name(), err)
	}
	mark := uint32(1) << (8*s.Width - 1)
	for i := range ids {
		var v uint32
		if s.Width == 2 {
			v = uint32(binary.LittleEndian.Uint16(raw[2*i:]))
		} else {
			v = binary.LittleEndian.Uint32(raw[4*i:])
		}
		ids[i] = int32(v &^ mark)
		if trained != nil {
			trained[i] = v&mark != 0
		}
	}
	return nil
}

// record reads example i.
func (s *tokenStore) record(i int64) (record, error) {
	var raw [recordBytes]byte
	if _, err := s.file.ReadAt(raw[:], s.Tokens*int64(s.Width)+i*recordBytes); err != nil {
		return record{}, fmt.Errorf("data: read cache %s: %w", s.file.Name(), err)
	}
	return parseRecord(raw[:]), nil
}

// records calls each with every example, in the order of the files.
func (s *tokenStore) records(ctx context.Context, each func(i int64, r record) error) error {
	const group = ioBytes / recordBytes
	raw := make([]byte, group*recordBytes)
	for i := int64(0); i < s.Examples; i += group {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := raw[:min(group, s.Examples-i)*recordBytes]
		if _, err := s.file.ReadAt(part, s.Tokens*int64(s.Width)+i*recordBytes); err != nil {
			return fmt.Errorf("data: read cache %s: %w", s.file.Name(), err)
		}
		for k := int64(0); len(part) > 0; k, part = k+1, part[recordBytes:] {
			if err := each(i+k, parseRecord(part)); err != nil {
				return err
			}
		}
	}
	return nil
}

// where names the place of an example.
func (s *tokenStore) where(r record) string { return fmt.Sprintf("%s:%d", s.Files[r.file], r.line) }
