//go:build !amd64 || noasm

package vector

func avx2(below Kernels) Kernels   { return below }
func avx512(below Kernels) Kernels { return below }
