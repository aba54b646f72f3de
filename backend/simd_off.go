//go:build !(goexperiment.simd && amd64)

package backend

// SIMD reports whether the Go backend's products were compiled with vector instructions (GOEXPERIMENT=simd, amd64 only).
func SIMD() bool { return false }
