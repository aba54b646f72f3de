// Package matfn holds matrix functions as graph nodes, made of matrix products, additions and norms only: the polar
// factor (Msign), the inverse square root of a positive semidefinite matrix (InvSqrt), the largest singular triplet
// (SpectralNorm), singular values clipped (SpectralClip, SpectralHardcap, SpectralReLU, SpectralClippedWeightDecay), and
// functions of the eigenvalues of symmetric matrices (EigClip, EigReLU, EigHardcap, EigStep, ProjPSD, ProjNSD).
//
// By default a function takes a fixed number of float32 steps, as training wants. WithExact makes it compute in float64
// until nothing changes, as comparisons with other implementations want.
//
// Every function takes [..., m, n]: the last two axes are the matrix, the others are a batch, handled in the same products.
// Stacking parameters of one shape is therefore one call. Inputs are never changed; results are new nodes. float16 and
// bfloat16 inputs are computed in float32 and rounded once at the end; float64 stays float64.
//
// All of it is differentiable by the engine's autodiff, also at zero, where gradients are finite. An input matrix with NaN
// or Inf gives NaN: never a number, and never an error, so callers check what they need to report. Other matrices of the
// same batch are not touched by it.
//
// Building a graph panics on misuse (rank, dtype, schedule), as in GoMLX; call it under an Exec or graphx.Try. Functions
// are safe to call from several goroutines on different graphs.
package matfn
