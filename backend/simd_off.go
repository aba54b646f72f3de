//go:build !(goexperiment.simd && amd64)

package backend

// simd says whether the Go backend's products were compiled with vector instructions (GOEXPERIMENT=simd, amd64 only).
const simd = false
