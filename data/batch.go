package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
)

// Batch is Rows rows of Length tokens, flat in row-major order.
type Batch struct {
	Rows, Length int
	Tokens       []int32   // [Rows*Length] inputs
	Targets      []int32   // [Rows*Length] the token after each input
	Weights      []float32 // [Rows*Length] loss weight of each target: 1, or 0 where masked or padded
	// Segments numbers the examples of a packed row from 1 (0: padding) and Positions counts from 0 in each. Both are nil
	// where a row holds one stretch of text: plain text, and examples without packing (padding comes last, where causal
	// attention never sees it).
	Segments, Positions []int32
}

// newBatch returns a batch of padding.
func newBatch(rows, length int, pad int32, packed bool) Batch {
	n := rows * length
	b := Batch{Rows: rows, Length: length, Tokens: make([]int32, n), Targets: make([]int32, n), Weights: make([]float32, n)}
	if pad != 0 {
		for i := range n {
			b.Tokens[i], b.Targets[i] = pad, pad
		}
	}
	if packed {
		b.Segments, b.Positions = make([]int32, n), make([]int32, n)
	}
	return b
}

// Hash is the SHA-256 of the batch, shape included, in hexadecimal digits.
func (b Batch) Hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %d %t\n", b.Rows, b.Length, b.Segments != nil)
	buffer := make([]byte, 0, 4*len(b.Tokens))
	for _, values := range [][]int32{b.Tokens, b.Targets, b.Segments, b.Positions} {
		buffer = buffer[:0]
		for _, v := range values {
			buffer = binary.LittleEndian.AppendUint32(buffer, uint32(v))
		}
		_, _ = h.Write(buffer)
	}
	buffer = buffer[:0]
	for _, w := range b.Weights {
		buffer = binary.LittleEndian.AppendUint32(buffer, math.Float32bits(w))
	}
	_, _ = h.Write(buffer)
	return hex.EncodeToString(h.Sum(nil))
}

// Stats describes a split.
type Stats struct {
	Source          int64   // rows of the files (of plain text: files)
	Rows            int64   // rows of Length tokens in an epoch
	Tokens          int64   // targets in an epoch, masked ones included, padding not
	TrainedTokens   int64   // targets with a weight
	Truncated       int64   // examples cut at Length
	TruncatedTokens int64   // tokens lost by that
	Chunked         int64   // texts longer than a row, cut into several pieces; nothing is lost
	Dropped         int64   // tokens at the end of plain text that fill no window
	Efficiency      float64 // Tokens / (Rows*Length)
}
