package program

import "unsafe"

// Allocate returns n bytes, aligned to a cache line. A request beyond the machine's memory is an error.
func Allocate(n int) ([]byte, error) {
	all := make([]byte, n+align)
	shift := int(-uintptr(unsafe.Pointer(unsafe.SliceData(all))) & (align - 1))
	return all[shift : shift+n : shift+n], nil
}
