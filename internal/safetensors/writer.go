package safetensors

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/polargo/polar/internal/atomicfile"
)

// Tensor is a named array of DType ("F32", "BF16", "I64", …) in row-major order, little endian.
type Tensor struct {
	Name  string
	DType string
	Shape []int
	Data  []byte
}

// FromFloat32 returns an F32 tensor with a copy of data.
func FromFloat32(name string, shape []int, data []float32) Tensor {
	bytes := make([]byte, 4*len(data))
	for i, value := range data {
		binary.LittleEndian.PutUint32(bytes[4*i:], math.Float32bits(value))
	}
	return Tensor{Name: name, DType: "F32", Shape: slices.Clone(shape), Data: bytes}
}

// Source gives a tensor to a writer when its turn comes, so that a large file needs one tensor in memory at a time.
type Source struct {
	Name  string
	DType string
	Shape []int
	Load  func() ([]byte, error)
}

// Write writes the tensors with metadata to path: to a temporary name beside it, synced, then renamed. The bytes depend
// only on the arguments. On error path is left as it was.
func Write(path string, tensors []Tensor, metadata map[string]string) error {
	sources := make([]Source, len(tensors))
	for i, t := range tensors {
		sources[i] = Source{Name: t.Name, DType: t.DType, Shape: t.Shape, Load: func() ([]byte, error) { return t.Data, nil }}
	}
	return WriteSources(path, sources, metadata)
}

// WriteSources is Write with tensors that are loaded one at a time, in order of name.
func WriteSources(path string, sources []Source, metadata map[string]string) error {
	sources = slices.Clone(sources)
	slices.SortFunc(sources, func(a, b Source) int { return strings.Compare(a.Name, b.Name) })
	header, err := buildHeader(sources, metadata)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return atomicfile.Write(path, func(w io.Writer) error { return writeAll(w, header, sources) })
}

func buildHeader(sources []Source, metadata map[string]string) ([]byte, error) {
	fields := make(map[string]any, len(sources)+1)
	if len(metadata) > 0 {
		fields["__metadata__"] = metadata
	}
	offset := int64(0)
	for _, s := range sources {
		if _, twice := fields[s.Name]; twice || s.Name == "" {
			return nil, fmt.Errorf("tensor name %q is empty or used twice", s.Name)
		}
		size, err := byteSize(s.DType, s.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", s.Name, err)
		}
		shape := s.Shape
		if shape == nil {
			shape = []int{}
		}
		fields[s.Name] = entry{DType: s.DType, Shape: shape, Offsets: [2]int64{offset, offset + size}}
		offset += size
	}
	header, err := json.Marshal(fields) // sorts keys
	if err != nil {
		return nil, err
	}
	for len(header)%8 != 0 { // the data starts aligned to 8 bytes, as the format asks
		header = append(header, ' ')
	}
	return header, nil
}

func writeAll(out io.Writer, header []byte, sources []Source) error {
	w := bufio.NewWriterSize(out, 1<<20)
	var prefix [8]byte
	binary.LittleEndian.PutUint64(prefix[:], uint64(len(header)))
	_, _ = w.Write(prefix[:])
	_, _ = w.Write(header) // bufio keeps the first error for Flush
	for _, s := range sources {
		data, err := s.Load()
		if err != nil {
			return fmt.Errorf("tensor %q: %w", s.Name, err)
		}
		if want, _ := byteSize(s.DType, s.Shape); int64(len(data)) != want {
			return fmt.Errorf("tensor %q: got %d bytes, %s %v wants %d", s.Name, len(data), s.DType, s.Shape, want)
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
	return w.Flush()
}
