package cpu

import (
	"errors"
	"fmt"
	"math/bits"
	"reflect"
	"sync"
	"unsafe"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
)

// Buffer is a tensor in this process's memory, row-major, aligned to 64 bytes.
type Buffer struct {
	backend *Backend
	shape   shapes.Shape

	mu    sync.Mutex
	state bufferState
	users int    // executions and copies that read the memory now
	block *block // nil once the memory was given away
	flat  any    // the memory as a slice of the element type
}

type bufferState int

const (
	live bufferState = iota
	donated
	finished
)

var _ compute.Buffer = (*Buffer)(nil)

// byteSize is the memory of a shape's values. Shapes without values, with dynamic axes and of more bytes than an int holds
// are errors.
func byteSize(shape shapes.Shape) (int, error) {
	if !shape.Ok() || shape.IsTuple() {
		return 0, fmt.Errorf("shape %s has no values", shape)
	}
	count := uint64(1)
	overflow := false
	for _, dim := range shape.Dimensions {
		if dim < 0 {
			return 0, fmt.Errorf("shape %s is not known in full", shape)
		}
		if dim == 0 {
			return 0, nil
		}
		var high uint64
		high, count = bits.Mul64(count, uint64(dim))
		overflow = overflow || high != 0
	}
	high, bitCount := bits.Mul64(count, uint64(shape.DType.Bits()))
	if overflow || high != 0 || bitCount > 1<<62 {
		return 0, fmt.Errorf("out of memory: shape %s is larger than any machine's memory", shape)
	}
	return int((bitCount + 7) / 8), nil
}

// typed is the memory as a slice of the dtype's Go type.
func typed(data []byte, shape shapes.Shape) any {
	if shape.IsZeroSize() {
		return dtypes.MakeAnySlice(shape.DType, 0)
	}
	return dtypes.UnsafeAnySliceFromBytes(unsafe.Pointer(unsafe.SliceData(data)), shape.DType, shape.Size())
}

// newBuffer takes memory for a shape from the pool; its content is whatever was there.
func (b *Backend) newBuffer(shape shapes.Shape) (*Buffer, error) {
	n, err := byteSize(shape)
	if err != nil {
		return nil, err
	}
	memory, err := b.pool.get(n)
	if err != nil {
		return nil, fmt.Errorf("buffer of shape %s: %w", shape, err)
	}
	return &Buffer{backend: b, shape: shape.Clone(), block: memory, flat: typed(memory.data, shape)}, nil
}

// checked is newBuffer for callers from outside.
func (b *Backend) checked(device compute.DeviceNum, shape shapes.Shape) (*Buffer, error) {
	if device != 0 {
		return nil, fmt.Errorf("buffer of shape %s: the polar backend has only device 0, not %d", shape, device)
	}
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer b.leave()
	if _, known := b.checker.Capabilities().DTypes[shape.DType]; !known {
		return nil, fmt.Errorf("buffer of shape %s: the polar backend has no %s", shape, shape.DType)
	}
	return b.newBuffer(shape)
}

// HasSharedBuffers is true: every buffer can be read and written through Data.
func (b *Backend) HasSharedBuffers() bool { return true }

// NewSharedBuffer returns a buffer and its values, which are not set to anything.
func (b *Backend) NewSharedBuffer(device compute.DeviceNum, shape shapes.Shape) (compute.Buffer, any, error) {
	buffer, err := b.checked(device, shape)
	if err != nil {
		return nil, nil, err
	}
	return buffer, buffer.flat, nil
}

// BufferFromFlatData returns a buffer with a copy of flat, a slice of the shape's Go type and size.
func (b *Backend) BufferFromFlatData(device compute.DeviceNum, flat any, shape shapes.Shape) (compute.Buffer, error) {
	buffer, err := b.checked(device, shape)
	if err != nil {
		return nil, err
	}
	if err := copyFlat(buffer.flat, flat, shape); err != nil {
		return nil, errors.Join(err, buffer.Finalize())
	}
	return buffer, nil
}

// copyFlat copies between two slices for one shape; the types and lengths must be the same. An int is an int64.
func copyFlat(to, from any, shape shapes.Shape) error {
	for _, flat := range []any{to, from} {
		value := reflect.ValueOf(flat)
		if !value.IsValid() || value.Kind() != reflect.Slice {
			return fmt.Errorf("values of shape %s must be a slice, not %T", shape, flat)
		}
		if element := value.Type().Elem(); element != shape.DType.GoType() && dtypes.FromGoType(element) != shape.DType {
			return fmt.Errorf("values of shape %s must be a slice of %s, not %T", shape, shape.DType.GoType(), flat)
		}
	}
	target, source := dtypes.UnsafeByteSliceFromAny(to), dtypes.UnsafeByteSliceFromAny(from)
	if len(target) != len(source) {
		return fmt.Errorf("values of shape %s: %d bytes wanted, got %d", shape, len(target), len(source))
	}
	copy(target, source)
	return nil
}

// Backend returns the backend that owns the buffer.
func (u *Buffer) Backend() compute.Backend { return u.backend }

// Shape returns the shape, also after Finalize.
func (u *Buffer) Shape() (shapes.Shape, error) { return u.shape, nil }

// DeviceNum returns 0.
func (u *Buffer) DeviceNum() (compute.DeviceNum, error) { return 0, nil }

// Data returns the values themselves, as a slice of the dtype's Go type. It is valid until the buffer is finalised or donated.
func (u *Buffer) Data() (any, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.usable(); err != nil {
		return nil, err
	}
	return u.flat, nil
}

// ToFlatData copies the values to flat, a slice of the dtype's Go type and the shape's size.
func (u *Buffer) ToFlatData(flat any) error {
	if err := u.acquire(); err != nil {
		return err
	}
	defer u.release()
	return copyFlat(flat, u.flat, u.shape)
}

// CopyToDevice returns a copy; there is only device 0.
func (u *Buffer) CopyToDevice(device compute.DeviceNum) (compute.Buffer, error) {
	if err := u.acquire(); err != nil {
		return nil, err
	}
	defer u.release()
	return u.backend.BufferFromFlatData(device, u.flat, u.shape)
}

// Finalize gives the memory back, when nothing that runs uses it any more. A second call is an error. The memory of a
// donated buffer is gone already: there it does nothing.
func (u *Buffer) Finalize() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state == donated {
		return nil
	}
	if err := u.usable(); err != nil {
		return err
	}
	u.end(finished)
	return nil
}

func (u *Buffer) usable() error {
	switch u.state {
	case donated:
		return fmt.Errorf("buffer of shape %s was donated to an execution", u.shape)
	case finished:
		return fmt.Errorf("buffer of shape %s was finalised", u.shape)
	}
	return nil
}

// acquire keeps the memory until release.
func (u *Buffer) acquire() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.usable(); err != nil {
		return err
	}
	u.users++
	return nil
}

func (u *Buffer) release() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users--
	if u.state != live {
		u.free()
	}
}

// take is called by an execution that acquired the buffer and may have it. It returns the memory, which is then the caller's, or
// nil if others use it too; the buffer is over in both cases.
func (u *Buffer) take() *block {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state != live {
		return nil // finalised meanwhile, or passed twice
	}
	if u.users > 1 {
		u.end(donated)
		return nil
	}
	taken := u.block
	u.block = nil
	u.end(donated)
	return taken
}

// end closes a live buffer to new users.
func (u *Buffer) end(state bufferState) {
	u.state = state
	u.free()
}

// free gives the memory to the pool when its last user has gone.
func (u *Buffer) free() {
	if u.users == 0 {
		u.flat = nil
		if u.block != nil {
			u.backend.pool.put(u.block)
			u.block = nil
		}
	}
}
