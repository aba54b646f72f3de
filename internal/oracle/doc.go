// Package oracle holds float64 references for the tests of matrix functions and optimizers, by algorithms that the code
// under test never uses: gonum's SVD, QR and symmetric eigendecomposition.
//
// Every function refuses an input with NaN or Inf by an error (gonum's SVD accepts a matrix with a NaN). Inputs are never
// changed and results share no memory with them. Nothing here imports GoMLX, and nothing outside tests should import it.
package oracle
