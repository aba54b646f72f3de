// Package data turns text files into training batches.
package data
