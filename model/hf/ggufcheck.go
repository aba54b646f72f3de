package hf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"

	"github.com/gomlx/go-huggingface/models/gguf"
)

// Bounds of a GGUF header. The reader that follows (go-huggingface) allocates by the counts in the file, so every count is
// compared here with the bytes that are left before it sees the file.
const (
	maxGGUFKeys      = 1 << 16
	maxGGUFTensors   = 1 << 16
	maxGGUFArray     = 1 << 24
	maxGGUFDims      = 4
	maxGGUFName      = 1 << 12
	maxGGUFAlignment = 1 << 16
)

// ggufTypes are the tensor types that Polar reads.
var ggufTypes = map[gguf.TensorType]bool{gguf.TensorTypeF32: true, gguf.TensorTypeF16: true, gguf.TensorTypeBF16: true, gguf.TensorTypeQ8_0: true,
	gguf.TensorTypeQ4_0: true, gguf.TensorTypeQ4_1: true, gguf.TensorTypeQ4_K: true, gguf.TensorTypeQ6_K: true}

// ggufTypeNames lists ggufTypes for people.
const ggufTypeNames = "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q4_K, Q6_K"

// ggufValueBytes is the size of a metadata value by its type; strings (8) and arrays (9) are not here.
var ggufValueBytes = map[uint32]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

const (
	ggufString = 8
	ggufArray  = 9
)

// checkGGUFFile is checkGGUF of a file.
func checkGGUFFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("is not a regular file")
	}
	return checkGGUF(file, info.Size())
}

// checkGGUF verifies that a header of version 2 or 3 and all that it claims lies inside the size bytes of r: counts, lengths,
// shapes, types and the place of every tensor. It allocates in proportion to the names only, and never panics.
func checkGGUF(r io.ReaderAt, size int64) error {
	h := &ggufHeader{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<16), size: size, alignment: 32}
	err := h.check()
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("truncated: the file ends inside its header, at byte %d", size)
	}
	return err
}

// ggufHeader walks over a header.
type ggufHeader struct {
	r         *bufio.Reader
	at, size  int64
	alignment int64
	tensors   []ggufTensor
}

type ggufTensor struct {
	name          string
	offset, bytes int64
}

func (h *ggufHeader) check() error {
	magic, err := h.bytes(4)
	if err != nil {
		return err
	}
	if string(magic) != "GGUF" {
		return fmt.Errorf("is not a GGUF file: it begins with %q, not \"GGUF\"", magic)
	}
	version, err := h.uint32()
	if err != nil {
		return err
	}
	if version < 2 || version > 3 {
		return fmt.Errorf("GGUF version %d is not supported (2 and 3 are; a big-endian file shows as a huge number)", version)
	}
	tensors, err := h.uint64()
	if err != nil {
		return err
	}
	keys, err := h.uint64()
	if err != nil {
		return err
	}
	left := uint64(h.size - h.at)
	if tensors > maxGGUFTensors || tensors > left/24 || keys > maxGGUFKeys || keys > left/13 {
		return fmt.Errorf("its header claims %d tensors and %d keys, which do not fit a file of %d bytes: truncated or damaged", tensors, keys, h.size)
	}
	if err := h.keys(int(keys)); err != nil {
		return err
	}
	if err := h.infos(int(tensors)); err != nil {
		return err
	}
	return h.layout()
}

func (h *ggufHeader) keys(count int) error {
	seen := map[string]bool{}
	for range count {
		key, err := h.name("a metadata key")
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("metadata key %q is there twice", key)
		}
		seen[key] = true
		kind, err := h.uint32()
		if err != nil {
			return err
		}
		if key == gguf.KeyGeneralAlignment {
			err = h.readAlignment(kind)
		} else {
			err = h.value(kind)
		}
		if err != nil {
			return fmt.Errorf("metadata key %q: %w", key, err)
		}
	}
	return nil
}

func (h *ggufHeader) readAlignment(kind uint32) error {
	if kind != 4 {
		return fmt.Errorf("is of type %d, want uint32", kind)
	}
	value, err := h.uint32()
	if err != nil {
		return err
	}
	if value == 0 || value > maxGGUFAlignment || value&(value-1) != 0 {
		return fmt.Errorf("is %d, want a power of two up to %d", value, maxGGUFAlignment)
	}
	h.alignment = int64(value)
	return nil
}

// value skips one metadata value.
func (h *ggufHeader) value(kind uint32) error {
	if size, ok := ggufValueBytes[kind]; ok {
		return h.skip(size)
	}
	switch kind {
	case ggufString:
		return h.skipString()
	case ggufArray:
		return h.array()
	}
	return fmt.Errorf("unknown value type %d", kind)
}

func (h *ggufHeader) array() error {
	kind, err := h.uint32()
	if err != nil {
		return err
	}
	count, err := h.uint64()
	if err != nil {
		return err
	}
	size, fixed := ggufValueBytes[kind]
	if !fixed {
		size = 8 // at least the length of each string
	}
	if count > maxGGUFArray || count > uint64(h.size-h.at)/uint64(size) {
		return fmt.Errorf("claims an array of %d values, more than the file holds: truncated or damaged", count)
	}
	if fixed {
		return h.skip(int64(count) * size)
	}
	if kind != ggufString {
		return fmt.Errorf("unknown array element type %d", kind)
	}
	for range count {
		if err := h.skipString(); err != nil {
			return err
		}
	}
	return nil
}

func (h *ggufHeader) infos(count int) error {
	seen := map[string]bool{}
	for range count {
		name, err := h.name("a tensor name")
		if err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("tensor %q is there twice", name)
		}
		seen[name] = true
		t, err := h.info()
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		t.name = name
		h.tensors = append(h.tensors, t)
	}
	return nil
}

func (h *ggufHeader) info() (t ggufTensor, err error) {
	dims, err := h.uint32()
	if err != nil {
		return t, err
	}
	if dims < 1 || dims > maxGGUFDims {
		return t, fmt.Errorf("has %d dimensions, want 1 to %d", dims, maxGGUFDims)
	}
	elements, first := uint64(1), uint64(0)
	for i := range dims {
		dim, err := h.uint64()
		if err != nil {
			return t, err
		}
		if dim == 0 || dim > math.MaxInt64/8/elements {
			return t, errors.New("its shape is empty or too large")
		}
		if elements *= dim; i == 0 {
			first = dim
		}
	}
	kind, err := h.uint32()
	if err != nil {
		return t, err
	}
	if t.bytes, err = ggufBytes(gguf.TensorType(kind), elements, first); err != nil {
		return t, err
	}
	offset, err := h.uint64()
	if err != nil {
		return t, err
	}
	if offset > uint64(h.size) || t.bytes > h.size-int64(offset) {
		return t, fmt.Errorf("claims %d bytes at offset %d of a file of %d bytes: truncated or damaged", t.bytes, offset, h.size)
	}
	t.offset = int64(offset)
	return t, nil
}

// ggufBytes is the size of a tensor whose rows have first elements.
func ggufBytes(kind gguf.TensorType, elements, first uint64) (int64, error) {
	if !ggufTypes[kind] {
		return 0, fmt.Errorf("type %s is not supported (supported: %s)", kind, ggufTypeNames)
	}
	block, width := uint64(kind.BlockSize()), uint64(kind.TypeSize())
	if first%block != 0 {
		return 0, fmt.Errorf("its rows of %d are not whole blocks of %d (%s)", first, block, kind)
	}
	return int64(elements / block * width), nil // elements < 2^60 and width/block <= 4
}

// layout checks each tensor against the data section, which begins at the next aligned byte.
func (h *ggufHeader) layout() error {
	start := (h.at + h.alignment - 1) / h.alignment * h.alignment
	for _, t := range h.tensors {
		if t.offset%h.alignment != 0 {
			return fmt.Errorf("tensor %q: offset %d is not a multiple of the alignment %d", t.name, t.offset, h.alignment)
		}
		if end := start + t.offset + t.bytes; end > h.size {
			return fmt.Errorf("truncated: tensor %q ends at byte %d but the file has %d", t.name, end, h.size)
		}
	}
	return nil
}

func (h *ggufHeader) bytes(n int) ([]byte, error) {
	buffer := make([]byte, n)
	_, err := io.ReadFull(h.r, buffer)
	h.at += int64(n)
	return buffer, err
}

func (h *ggufHeader) uint32() (uint32, error) {
	b, err := h.bytes(4)
	return binary.LittleEndian.Uint32(b), err
}

func (h *ggufHeader) uint64() (uint64, error) {
	b, err := h.bytes(8)
	return binary.LittleEndian.Uint64(b), err
}

func (h *ggufHeader) skip(n int64) error {
	if n > h.size-h.at {
		return io.ErrUnexpectedEOF
	}
	h.at += n
	_, err := io.CopyN(io.Discard, h.r, n)
	return err
}

func (h *ggufHeader) skipString() error {
	length, err := h.uint64()
	if err != nil {
		return err
	}
	if h.at > h.size || length > uint64(h.size-h.at) {
		return fmt.Errorf("claims a string of %d bytes, more than the file holds: truncated or damaged", length)
	}
	return h.skip(int64(length))
}

func (h *ggufHeader) name(what string) (string, error) {
	length, err := h.uint64()
	if err != nil {
		return "", err
	}
	if length == 0 || length > maxGGUFName {
		return "", fmt.Errorf("%s claims %d bytes, want 1 to %d: truncated or damaged", what, length, maxGGUFName)
	}
	text, err := h.bytes(int(length))
	return strings.ToValidUTF8(string(text), "\uFFFD"), err
}
