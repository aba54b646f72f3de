package data

import (
	"fmt"
	"net/http"
	"time"

	"github.com/polargo/polar/tokenizer"
)

// Sampling is a way of drawing training rows.
type Sampling string

const (
	SamplingEpochs  Sampling = "epochs"  // every row once an epoch, in seeded order
	SamplingWindows Sampling = "windows" // windows at random offsets, plain text only
)

// maxLength bounds a row, so that a mistyped length cannot ask for gigabytes a row.
const maxLength = 1 << 24

// Options say what to read and how to cut it into rows.
type Options struct {
	// Path is a file, a folder, a glob, several of them separated by commas, "shakespeare", or hf://datasets/OWNER/NAME.
	Path      string
	Tokenizer tokenizer.Tokenizer
	Chat      *tokenizer.ChatTemplate // needed for rows with messages
	Length    int                     // tokens in a row, at least 1
	Packing   bool                    // several examples a row; otherwise one example a row, padded
	// TrainOnPrompt weighs every token; otherwise completions (and text) only.
	TrainOnPrompt bool
	// ValidationFraction of the data is held out: the end of plain text, a seeded choice of rows. 0: none.
	ValidationFraction float64
	ValidationPath     string // like Path; replaces ValidationFraction
	Seed               int64
	Sampling           Sampling // SamplingEpochs (also "") or SamplingWindows
	CacheDir           string   // "" is the folder polar in os.UserCacheDir
	Offline            bool     // forbids every download
	// Progress is called while files are read, with bytes done and in all; it may be nil. Calls come from one goroutine at a time.
	Progress func(done, total int64)
	Source   Source // where downloads come from; the zero value is the internet
}

// Source is where downloads come from; tests replace it.
type Source struct {
	Client         *http.Client  // nil: a client that gives up on connecting after 10 s
	ShakespeareURL string        // "": the published address
	HubEndpoint    string        // "": huggingface.co or $HF_ENDPOINT
	GoRoot         string        // "": found from the environment and the go command
	Timeout        time.Duration // of a whole download of the text; 0: 60 s
}

// check reports options that cannot work.
func (o Options) check() error {
	switch {
	case o.Path == "":
		return fmt.Errorf("data: no path; give a .txt, .jsonl or .parquet file, a folder of them, or shakespeare")
	case o.Tokenizer == nil:
		return fmt.Errorf("data: no tokenizer")
	case o.Length < 1:
		return fmt.Errorf("data: length %d; it must be at least 1 token", o.Length)
	case o.Length > maxLength:
		return fmt.Errorf("data: length %d is more than %d", o.Length, maxLength)
	case !(o.ValidationFraction >= 0 && o.ValidationFraction < 1):
		return fmt.Errorf("data: validation fraction %v is not in [0, 1)", o.ValidationFraction)
	case o.Sampling != "" && o.Sampling != SamplingEpochs && o.Sampling != SamplingWindows:
		return fmt.Errorf("data: sampling %q is unknown; known: %s, %s", o.Sampling, SamplingEpochs, SamplingWindows)
	}
	return nil
}
