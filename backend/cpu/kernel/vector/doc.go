// Package vector is the element-wise, reduction and data movement kernels of the CPU backend: each works on whole tiles of some
// thousand elements, so that a chain of operations can be interpreted tile by tile at the speed of the level 1 cache.
//
// # Values
//
// Values have lanes of 32 bits: float32, int32 (also taken as uint32), or masks, which are int32 of 0 (false) or -1 (true).
// Pointers need no alignment. A length may be 0, and then pointers are not looked at. A destination may equal a source exactly;
// it overlaps none otherwise. The caller keeps the memory behind the pointers alive during the call. Kernels hold no
// state: any number of goroutines may use them on different destinations.
//
// # Equal results
//
// A lane's result depends only on that lane's inputs: not on its place in the tile, on the length or on the address. Reductions
// add in an order fixed by the number of columns alone. Everything but the functions Exp, Expm1, Log, Log1p, Tanh, Logistic, Erf,
// Sin and Cos is equal bit for bit at all levels, apart from which NaN a NaN is. These functions go through float64 at the
// generic level and through polynomials in float32 at the others (see functions_amd64.go for the errors); AVX2 and AVX-512
// are equal to each other.
package vector
