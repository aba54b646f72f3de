package hf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/gomlx/compute"
	mlmodel "github.com/gomlx/gomlx/ml/model"
	"github.com/polargo/polar/internal/graphx"
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
	// Backend, when set and sharing memory with Go, holds the weights in its own buffers, so that no second copy is made when
	// they are first used. The variables can then be used with this backend only.
	Backend compute.Backend
	// Progress is told about downloads: the file and its bytes; total is 0 while unknown. It may be nil.
	Progress func(file string, done, total int64)
}

// Loaded is a model in memory.
type Loaded struct {
	Decoder      *model.Decoder
	Store        *mlmodel.Store
	Tokenizer    tokenizer.Tokenizer // nil where the source has none and none was required
	ChatTemplate string              // Jinja source, "" where there is none
	Dir          string              // folder the model was read from (of the GGUF file, or in the hub cache)
	NameOrPath   string              // as given to Load
	// Fingerprint identifies the base as it was loaded, see Fingerprint; what is trained later does not change it.
	Fingerprint string
	// Config is the source's config.json (for GGUF an equivalent one); GenerationConfig is nil where there is none.
	Config, GenerationConfig json.RawMessage
}

// Load reads the model at a local folder or .gguf file, or, where no such path exists, of a hub name ("org/model").
// The weights are float32 variables of Loaded.Store, not trainable. The error is one line that says what is wrong and where.
// At most one tensor is held twice while loading.
func Load(ctx context.Context, nameOrPath string, opts LoadOptions) (*Loaded, error) {
	loaded, err := graphx.Try1(func() (*Loaded, error) { return load(ctx, nameOrPath, opts) })
	debug.FreeOSMemory() // the conversion buffers and, on failure, the weights read so far
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", nameOrPath, err)
	}
	loaded.NameOrPath = nameOrPath
	return loaded, nil
}

func load(ctx context.Context, nameOrPath string, opts LoadOptions) (*Loaded, error) {
	if nameOrPath == "" {
		return nil, errors.New("no model given: want a folder, a .gguf file or a hub name such as HuggingFaceTB/SmolLM2-135M")
	}
	info, err := os.Stat(nameOrPath)
	switch {
	case err == nil && info.IsDir():
		return loadFolder(ctx, nameOrPath, opts)
	case err == nil && strings.EqualFold(filepath.Ext(nameOrPath), ".safetensors"):
		return nil, fmt.Errorf("is a single tensor file; give its folder %s, which needs config.json too", filepath.Dir(nameOrPath))
	case err == nil:
		return loadGGUF(ctx, nameOrPath, opts)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case !looksLikeHubName(nameOrPath):
		return nil, errors.New("no such file or folder, and not a hub name of the form org/model")
	}
	dir, err := fetch(ctx, nameOrPath, opts)
	if err != nil {
		return nil, err
	}
	return loadFolder(ctx, dir, opts)
}

// loadFolder reads a Hugging Face folder.
func loadFolder(ctx context.Context, dir string, opts LoadOptions) (*Loaded, error) {
	text, err := readSmall(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, missingConfig(dir, err)
	}
	cfg, err := ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err)
	}
	src, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	defer src.close()
	loaded := &Loaded{Dir: dir, Config: text}
	if err := loaded.place(ctx, cfg, src, opts); err != nil {
		return nil, err
	}
	if generation, err := readSmall(filepath.Join(dir, "generation_config.json")); err == nil && json.Valid(generation) {
		loaded.GenerationConfig = generation
	}
	return loaded, loaded.readTokenizer(opts.NeedTokenizer)
}

// missingConfig explains a folder without config.json by what it holds instead.
func missingConfig(dir string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if found, _ := filepath.Glob(filepath.Join(dir, "*.gguf")); len(found) > 0 {
		return fmt.Errorf("the folder has no config.json; to load a GGUF file name it: %s", found[0])
	}
	if _, err := os.Stat(filepath.Join(dir, "adapter_config.json")); err == nil {
		return errors.New("the folder is an adapter (adapter_config.json), not a model: give it with --adapter")
	}
	return errors.New("the folder has no config.json, so it is not a model in Hugging Face's format")
}

// tokenizerFiles are the names of which one must be present for a folder to have a tokenizer.
var tokenizerFiles = []string{"tokenizer.json", tokenizer.CharFile}

func (l *Loaded) readTokenizer(need bool) error {
	found := false
	for _, name := range tokenizerFiles {
		_, err := os.Stat(filepath.Join(l.Dir, name))
		found = found || err == nil
	}
	if !found {
		if need {
			return fmt.Errorf("tokenizer missing: %s has none of %s", l.Dir, strings.Join(tokenizerFiles, ", "))
		}
		return nil
	}
	t, err := tokenizer.FromFolder(l.Dir)
	if err != nil {
		return err
	}
	if l.ChatTemplate, err = tokenizer.TemplateFromFolder(l.Dir); err != nil {
		return err
	}
	return l.setTokenizer(t)
}

// setTokenizer keeps t after checking that every id it can produce has an embedding.
func (l *Loaded) setTokenizer(t tokenizer.Tokenizer) error {
	if rows := l.Decoder.Config().VocabSize; t.VocabSize() > rows {
		return fmt.Errorf("the tokenizer has %d tokens but the model's vocabulary only %d: they do not belong together", t.VocabSize(), rows)
	}
	l.Tokenizer = t
	return nil
}

// maxSmallFile bounds config files; the largest published is well under a megabyte.
const maxSmallFile = 64 << 20

func readSmall(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSmallFile {
		return nil, fmt.Errorf("%s has %d bytes, more than the limit of %d", path, info.Size(), maxSmallFile)
	}
	return os.ReadFile(path)
}
