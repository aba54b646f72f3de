package gemm

import (
	"syscall"
	"testing"
	"unsafe"
)

// guarded returns n zeroed elements that end where memory ends, or begin where it begins: reading or writing beyond faults.
func guarded[T float32 | float64](t testing.TB, n int, atEnd bool) []T {
	page := syscall.Getpagesize()
	bytes := n * int(unsafe.Sizeof(T(0)))
	pages := (bytes+page-1)/page + 2
	m, err := syscall.Mmap(-1, 0, pages*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(m) })
	for _, edge := range [][]byte{m[:page], m[(pages-1)*page:]} {
		if err := syscall.Mprotect(edge, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	if n == 0 {
		return nil
	}
	first := page
	if atEnd {
		first = (pages-1)*page - bytes
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&m[first])), n)
}
