package data

// Batch is Rows rows of Length tokens, flat in row-major order.
type Batch struct {
	Rows, Length int
	Tokens       []int32   // [Rows*Length] inputs
	Targets      []int32   // [Rows*Length] the token after each input
	Weights      []float32 // [Rows*Length] loss weight of each target; 0 where masked or padded
	// Segments numbers the examples of a packed row from 1 (0: padding) and Positions counts from 0 in each. Both are nil
	// where rows hold one stretch of text: plain text, and examples without packing (padding comes last, so that causal
	// attention never sees it).
	Segments, Positions []int32
}

// Stats describes a split.
type Stats struct {
	Source          int64   // rows of the files (of plain text: files)
	Rows            int64   // rows of Length tokens in an epoch
	Tokens          int64   // targets in an epoch, masked ones included, padding not
	TrainedTokens   int64   // targets with a weight
	Truncated       int64   // examples cut at Length
	TruncatedTokens int64   // tokens lost by that
	Chunked         int64   // texts longer than a row, cut into several pieces (nothing lost)
	Dropped         int64   // tokens at the end of plain text that fill no window
	Efficiency      float64 // Tokens / (Rows*Length)
}

// Segment is a stretch of text whose tokens all are, or all are not, trained on.
type Segment struct {
	Text    string
	Trained bool
}

// Preview is one training example as the loss sees it.
type Preview struct {
	Where    string // file and line or row; empty for plain text
	Segments []Segment
}
