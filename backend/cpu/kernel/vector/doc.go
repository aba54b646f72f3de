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
// generic level and through polynomials in float32 at the others, where AVX2 and AVX-512 are equal to each other.
//
// # Accuracy
//
// The worst errors found there, in units of the last place: Exp 0.96, Expm1 1.41, Log 0.91, Log1p 1.46, Tanh 2.42, Logistic 2.30,
// Erf 0.93, Sin 1.47, Cos 1.50 (TestFunctionsEverywhere). NaN, infinities, zeros with their sign, and denormal arguments and
// results are right. Sin and Cos of more than 2^15 go through float64, lane by lane.
//
// # Tiles
//
// On Zen 4 the simple instructions run at 26 to 28 lanes a ns from the level 1 cache, a call costs some 5 ns, and functions run at 2
// to 5 lanes a ns. Three tiles of 2048 lanes fit that cache. Loads may wait for stores to addresses that are equal modulo 4096: a
// sum into a tile that began 128 bytes above its source, modulo 4096, had 21 lanes a ns instead of 26, and 4 with vectors of
// 512 bits. Tiles a multiple of 4096 bytes apart, and work in place, do not have this.
package vector
