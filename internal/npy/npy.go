package npy

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/polargo/polar/internal/atomicfile"
)

// Float is an element type of the arrays that this package knows.
type Float interface{ float32 | float64 }

// chunk is how many elements are read or written at once.
const chunk = 1 << 16

// File is an open array file whose header fits its size.
type File struct {
	path   string
	file   *os.File
	start  int64
	header header
}

// Open reads and checks the header of the file at path. The error names the file and what is wrong with it.
func Open(path string) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f, err := parse(path, file)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

func parse(path string, file *os.File) (*File, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a file of its own (a folder or a pipe), want a .npy file")
	}
	f := &File{path: path, file: file}
	if f.header, f.start, err = readHeader(file, info.Size()); err != nil {
		return nil, err
	}
	want, err := f.header.dataSize()
	if err != nil {
		return nil, err
	}
	if has := info.Size() - f.start; has != want {
		problem := "more follows"
		if has < want {
			problem = "truncated"
		}
		return nil, fmt.Errorf("its shape %s takes %d bytes, the file holds %d: %s", ShapeText(f.header.shape), want, has, problem)
	}
	return f, nil
}

// Shape returns the array's dimensions; none for a single number.
func (f *File) Shape() []int { return slices.Clone(f.header.shape) }

// Double reports whether the elements are float64; else they are float32.
func (f *File) Double() bool { return f.header.double }

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Read fills dst with the array in C order, through a small buffer, so that it is never held twice. It fails when dst has
// not as many elements as the array. float64 elements are rounded when dst is float32.
func Read[T Float](f *File, dst []T) error {
	size, err := f.header.dataSize()
	if err != nil || size != int64(len(dst))*f.header.itemSize() {
		return fmt.Errorf("%s: shape %s does not have %d elements", f.path, ShapeText(f.header.shape), len(dst))
	}
	place := placer[T]{dst: dst, shape: f.header.shape}
	if f.header.fortran {
		place.index, place.strides = make([]int, len(f.header.shape)), strides(f.header.shape)
	}
	width := int(f.header.itemSize())
	buffer, values := make([]byte, min(chunk, len(dst))*width), make([]T, min(chunk, len(dst)))
	for done := 0; done < len(dst); {
		n := min(chunk, len(dst)-done)
		if _, err := f.file.ReadAt(buffer[:n*width], f.start+int64(done)*int64(width)); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		decode(values[:n], buffer, f.header)
		place.put(values[:n])
		done += n
	}
	return nil
}

func decode[T Float](values []T, data []byte, h header) {
	if h.double {
		for i := range values {
			values[i] = T(math.Float64frombits(h.order.Uint64(data[8*i:])))
		}
		return
	}
	for i := range values {
		values[i] = T(math.Float32frombits(h.order.Uint32(data[4*i:])))
	}
}

// strides returns how far apart neighbours along each axis are in C order.
func strides(shape []int) []int {
	out := make([]int, len(shape))
	step := 1
	for i := len(shape) - 1; i >= 0; i-- {
		out[i] = step
		step *= shape[i]
	}
	return out
}

// placer puts elements, which come in the file's order, where they belong in C order. index is nil where both agree.
type placer[T Float] struct {
	dst            []T
	shape, strides []int
	index          []int
	at             int
}

func (p *placer[T]) put(values []T) {
	if p.index == nil {
		copy(p.dst[p.at:], values)
		p.at += len(values)
		return
	}
	for _, value := range values {
		p.dst[p.at] = value
		for axis := range p.index { // the first axis runs fastest
			p.at += p.strides[axis]
			if p.index[axis]++; p.index[axis] < p.shape[axis] {
				break
			}
			p.at -= p.index[axis] * p.strides[axis]
			p.index[axis] = 0
		}
	}
}

// Write writes data, in C order, as an array of float32 with the given shape: to a temporary name beside path, synced, then
// renamed. On error path is
// left as it was.
func Write(path string, shape []int, data []float32) error {
	elements := 1
	for _, dim := range shape {
		elements *= dim
	}
	if elements != len(data) {
		return fmt.Errorf("write %s: %d elements for the shape %s", path, len(data), ShapeText(shape))
	}
	head := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", ShapeText(shape))
	const prefix, align = 10, 64
	for (prefix+len(head)+1)%align != 0 { // the elements start aligned to 64 bytes, as the format asks
		head += " "
	}
	head += "\n"
	return atomicfile.Write(path, func(out io.Writer) error {
		w := bufio.NewWriterSize(out, 4*chunk)
		_, _ = w.WriteString(magic + "\x01\x00")
		_, _ = w.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(head))))
		_, _ = w.WriteString(head) // bufio keeps the first error for Flush
		var element [4]byte
		for _, value := range data {
			binary.LittleEndian.PutUint32(element[:], math.Float32bits(value))
			_, _ = w.Write(element[:])
		}
		return w.Flush()
	})
}
