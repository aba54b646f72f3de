package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// maxHeader bounds the header's length: the format's own reader uses the same 100 MB.
const maxHeader = 100_000_000

// entry is a tensor's line of the header.
type entry struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// File is an open safetensors file; its header is in memory and its tensors are read on demand.
type File struct {
	path     string
	file     *os.File
	start    int64
	entries  map[string]entry
	names    []string
	metadata map[string]string
}

// Open reads and checks the header of the file at path. The error names the file and what is wrong with it.
func Open(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	opened, err := parse(path, file)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return opened, nil
}

func parse(path string, file *os.File) (*File, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, errors.New("is a folder, not a safetensors file")
	}
	f := &File{path: path, file: file}
	header, err := readHeader(file, info.Size())
	if err != nil {
		return nil, err
	}
	f.start = 8 + int64(len(header))
	if err := f.parseEntries(header); err != nil {
		return nil, err
	}
	return f, f.checkLayout(info.Size() - f.start)
}

func readHeader(file io.ReaderAt, size int64) ([]byte, error) {
	var prefix [8]byte
	if size < 8 {
		return nil, fmt.Errorf("is %d bytes long, too short for a safetensors file (truncated?)", size)
	}
	if _, err := file.ReadAt(prefix[:], 0); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > uint64(size-8) {
		return nil, fmt.Errorf("its header claims %d bytes but only %d follow: truncated, or not a safetensors file", length, size-8)
	}
	if length > maxHeader {
		return nil, fmt.Errorf("its header claims %d bytes, more than the limit of %d", length, maxHeader)
	}
	header := make([]byte, length)
	_, err := file.ReadAt(header, 8)
	return header, err
}

func (f *File) parseEntries(header []byte) error {
	raw := map[string]json.RawMessage{}
	if err := json.Unmarshal(header, &raw); err != nil {
		return fmt.Errorf("its header is not valid JSON: %w", err)
	}
	f.entries = make(map[string]entry, len(raw))
	for name, text := range raw {
		if name == "__metadata__" {
			if err := json.Unmarshal(text, &f.metadata); err != nil {
				return fmt.Errorf("its metadata is not a map of strings: %w", err)
			}
			continue
		}
		var e entry
		if err := json.Unmarshal(text, &e); err != nil {
			return fmt.Errorf("tensor %q: bad header entry: %w", name, err)
		}
		f.entries[name] = e
		f.names = append(f.names, name)
	}
	return nil
}

// checkLayout verifies that each tensor has the bytes of its type and shape, inside the data and apart from the others.
func (f *File) checkLayout(dataSize int64) error {
	slices.SortFunc(f.names, func(a, b string) int {
		x, y := f.entries[a].Offsets, f.entries[b].Offsets
		if x != y {
			return slices.Compare(x[:], y[:])
		}
		return strings.Compare(a, b)
	})
	end, previous := int64(0), ""
	for _, name := range f.names {
		e := f.entries[name]
		want, err := byteSize(e.DType, e.Shape)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		from, to := e.Offsets[0], e.Offsets[1]
		switch {
		case from < 0 || to < from || to-from != want:
			return fmt.Errorf("tensor %q: offsets [%d, %d] do not hold the %d bytes of %s %v", name, from, to, want, e.DType, e.Shape)
		case to > dataSize:
			return fmt.Errorf("tensor %q ends at byte %d but the file has %d bytes of data: truncated", name, to, dataSize)
		case from < end:
			return fmt.Errorf("tensors %q and %q overlap", previous, name)
		}
		end, previous = to, name
	}
	return nil
}

func byteSize(dtype string, shape []int) (int64, error) {
	width, ok := dtypeBytes[dtype]
	if !ok {
		return 0, fmt.Errorf("unknown type %q", dtype)
	}
	size := int64(width)
	for _, dim := range shape {
		if dim < 0 {
			return 0, fmt.Errorf("negative dimension in shape %v", shape)
		}
		if dim > 0 && size > math.MaxInt64/int64(dim) {
			return 0, fmt.Errorf("shape %v is too large", shape)
		}
		size *= int64(dim)
	}
	return size, nil
}

// Names returns the tensors' names in the order of the data.
func (f *File) Names() []string { return slices.Clone(f.names) }

// Metadata returns the header's string metadata; nil when there is none.
func (f *File) Metadata() map[string]string { return f.metadata }

// Info returns the type and shape of a tensor; ok is false when there is none of that name.
func (f *File) Info(name string) (dtype string, shape []int, ok bool) {
	e, ok := f.entries[name]
	return e.DType, slices.Clone(e.Shape), ok
}

// Read returns a tensor with its bytes as stored (little endian).
func (f *File) Read(name string) (Tensor, error) {
	e, ok := f.entries[name]
	if !ok {
		return Tensor{}, fmt.Errorf("%s: no tensor %q", f.path, name)
	}
	data := make([]byte, e.Offsets[1]-e.Offsets[0])
	if _, err := f.file.ReadAt(data, f.start+e.Offsets[0]); err != nil {
		return Tensor{}, fmt.Errorf("%s: read tensor %q: %w", f.path, name, err)
	}
	return Tensor{Name: name, DType: e.DType, Shape: slices.Clone(e.Shape), Data: data}, nil
}

// Float32 returns a floating-point tensor (F32, F16, BF16, F64) as float32 with its shape.
func (f *File) Float32(name string) (data []float32, shape []int, err error) {
	t, err := f.Read(name)
	if err != nil {
		return nil, nil, err
	}
	if data, err = toFloat32(t.DType, t.Data); err != nil {
		return nil, nil, fmt.Errorf("%s: tensor %q: %w", f.path, name, err)
	}
	return data, t.Shape, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }
