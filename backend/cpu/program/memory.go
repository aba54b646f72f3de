package program

import "unsafe"

// Align is the alignment of arenas and buffers in bytes: a cache line, and a vector of AVX-512.
const Align = 64

// Aligned rounds a number of bytes up to a multiple of a cache line.
func Aligned(bytes int) int { return (bytes + Align - 1) &^ (Align - 1) }

// Memory returns n bytes that start at a multiple of Align. Where the machine has not so much, Go ends the program.
func Memory(n int) []byte {
	if data := make([]byte, n); uintptr(unsafe.Pointer(unsafe.SliceData(data)))%Align == 0 {
		return data
	}
	data := make([]byte, n+Align)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(data)))) & (Align - 1)
	return data[skip : skip+n : skip+n]
}
