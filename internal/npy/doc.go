// Package npy reads and writes arrays of float32 and float64 in NumPy's .npy format: a magic, a version, the length of a
// header that is a Python dictionary, and the elements in C or Fortran order.
//
// The reader trusts nothing: header and shape must fit the file before anything of their size is allocated, and the file
// must hold exactly the elements that the header promises. Arrays come out in C order whatever the file's. The writer
// writes to a temporary name, syncs and renames. A File may be read from several goroutines.
//
// codeberg.org/sbinet/npyio (v0.14.0) is the usual library for this. It panics on a header without a line end, with its keys in
// another order, or with a shape beyond memory, allocates the 4 GB that a version 2 header may claim, does not read version
// 3, and cannot write an array of more than two axes from flat data.
package npy
