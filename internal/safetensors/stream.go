package safetensors

import (
	"fmt"
)

// streamBytes is how much of a tensor ReadFloat32 holds at once; a multiple of every element's size.
const streamBytes = 1 << 20

// ReadFloat32 fills dst with a floating-point tensor (F32, F16, BF16, F64) through a small buffer, so that the tensor is
// never held twice. It fails when dst has not exactly the tensor's number of elements.
func (f *File) ReadFloat32(name string, dst []float32) error {
	e, ok := f.entries[name]
	if !ok {
		return fmt.Errorf("%s: no tensor %q", f.path, name)
	}
	width := dtypeBytes[e.DType]
	if total := e.Offsets[1] - e.Offsets[0]; total != int64(len(dst))*int64(width) {
		return fmt.Errorf("%s: tensor %q has %d bytes of %s, want %d elements", f.path, name, total, e.DType, len(dst))
	}
	buffer := make([]byte, min(streamBytes, len(dst)*width))
	at := f.start + e.Offsets[0]
	for len(dst) > 0 {
		n := min(len(dst), len(buffer)/width)
		part := buffer[:n*width]
		if _, err := f.file.ReadAt(part, at); err != nil {
			return fmt.Errorf("%s: read tensor %q: %w", f.path, name, err)
		}
		if err := convert(dst[:n], e.DType, part); err != nil {
			return fmt.Errorf("%s: tensor %q: %w", f.path, name, err)
		}
		dst, at = dst[n:], at+int64(len(part))
	}
	return nil
}
