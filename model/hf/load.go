package hf

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/gomlx/compute"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/model"
	"github.com/polargo/polar/tokenizer"
)

// LoadOptions says how Load finds and places a model. The zero value is usable.
type LoadOptions struct {
	// Offline forbids the network: a name that is not a local path is then looked for in the hub cache only.
	Offline bool
	// Revision is the hub's branch, tag or commit; "" means "main".
	Revision string
	// CacheDir is the folder of downloaded files; "" means the cache shared with Hugging Face's own tools.
	CacheDir string
	// NeedTokenizer makes a missing tokenizer an error; otherwise Loaded.Tokenizer is nil.
	NeedTokenizer bool
	// Backend, when set, holds the weights in its own memory, so that no second copy is made when they are first used.
	Backend compute.Backend
	// Progress is told about downloads; it may be nil.
	Progress func(Progress)
}

// Progress is the state of the download of one file.
type Progress struct {
	File        string
	Done, Total int64 // bytes; Total is 0 while unknown
}

// Loaded is a model in memory.
type Loaded struct {
	Decoder      *model.Decoder
	Store        *mlmodel.Store
	Tokenizer    tokenizer.Tokenizer // nil where the source has none and none was required
	ChatTemplate string              // Jinja source, "" where there is none
	Dir          string              // folder the model was read from (of the GGUF file, or in the hub cache)
	NameOrPath   string              // as given to Load
	// Fingerprint identifies the base: configuration, tensor names and shapes, sampled content. The same model in another
	// file format has another fingerprint.
	Fingerprint string
	// Config is the source's config.json (for GGUF an equivalent one); GenerationConfig is nil where there is none.
	Config, GenerationConfig json.RawMessage
}

// Load reads the model at a local folder or .gguf file, or, where no such path exists, of a hub name ("org/model").
// The weights are float32 variables of Loaded.Store, not trainable. The error is one line that says what is wrong and where.
func Load(ctx context.Context, nameOrPath string, opts LoadOptions) (*Loaded, error) {
	return nil, errors.New("being built")
}
