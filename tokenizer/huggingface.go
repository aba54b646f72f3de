package tokenizer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// huggingFace is a tokenizer.json: cut out added tokens, normalise, pre-tokenize, encode each piece, post-process.
type huggingFace struct {
	raw, spacedSet *addedSet // matched before and after normalisation
	normalize      normalizer
	preTokenize    preTokenizer
	model          subwords
	decode         decoder
	byteLevel      bool // the decoder is ByteLevel alone, so a token's bytes are known by itself
	before, after  []int32
	postProcessed  bool     // tokenizer.json has a post-processor
	tokens         []string // by id, "" where there is none
	known          []bool
	special        specials
	files          map[string][]byte
	print          string
	cache          pieceCache
}

// newHuggingFace builds the tokenizer from tokenizer.json and what the files beside it say about special tokens.
func newHuggingFace(files map[string][]byte) (*huggingFace, error) {
	var def definition
	if err := json.Unmarshal(files[tokenizerJSON], &def); err != nil {
		return nil, fmt.Errorf("%s: %w", tokenizerJSON, err)
	}
	conf, err := readSpecials(files)
	if err != nil {
		return nil, err
	}
	t := &huggingFace{files: map[string][]byte{}, cache: pieceCache{ids: map[string][]int32{}}}
	if err := t.build(&def, conf); err != nil {
		return nil, fmt.Errorf("%s: %w", tokenizerJSON, err)
	}
	if err := t.resolve(conf); err != nil {
		return nil, err
	}
	for _, name := range []string{tokenizerJSON, tokenizerConf, specialMap, generateConf, templateFile} {
		if content, ok := files[name]; ok {
			t.files[name] = content
		}
	}
	t.print = fingerprint(files[tokenizerJSON], []byte(fmt.Sprint(t.before, t.after, t.special)))
	return t, nil
}

func (t *huggingFace) build(def *definition, conf *specialFiles) (err error) {
	if t.model, err = newModel(def.Model); err != nil {
		return err
	}
	if t.normalize, err = newNormalizer(def.Normalizer, 0); err != nil {
		return err
	}
	if t.preTokenize, err = newPreTokenizer(def.PreTokenizer, 0); err != nil {
		return err
	}
	if t.decode, err = newDecoder(def.Decoder, 0); err != nil {
		return err
	}
	if kind, err := typeOf("decoder", def.Decoder); err == nil {
		t.byteLevel = kind == "ByteLevel"
	}
	if t.before, t.after, err = newPostProcessor(def.PostProcessor, 0); err != nil {
		return err
	}
	t.postProcessed = !absent(def.PostProcessor)
	added := append(slices.Clone(def.AddedTokens), conf.missing(def.AddedTokens)...)
	return t.addTokens(added)
}

// newModel builds the "model" component; files of 2019 to 2020 leave out the type of a BPE.
func newModel(raw json.RawMessage) (subwords, error) {
	if absent(raw) {
		return nil, fmt.Errorf("no model; is this a Hugging Face tokenizer.json?")
	}
	kind, err := typeOf("model", raw)
	if err != nil {
		return nil, err
	}
	var m subwords
	switch kind {
	case "BPE", "":
		m, err = newBPE(raw)
	case "Unigram":
		m, err = newUnigram(raw)
	case "WordPiece":
		m, err = newWordPiece(raw, false)
	case "WordLevel":
		m, err = newWordPiece(raw, true)
	default:
		err = fmt.Errorf("model type %q is not supported; known: BPE, Unigram, WordPiece, WordLevel", kind)
	}
	if err != nil {
		return nil, err
	}
	if len(m.vocab()) == 0 {
		return nil, fmt.Errorf("model.vocab is empty")
	}
	return m, nil
}

// addTokens fills the table of spellings and the matchers of added tokens.
func (t *huggingFace) addTokens(added []addedToken) error {
	size := 0
	for _, id := range t.model.vocab() {
		size = max(size, int(id)+1)
	}
	for _, a := range added {
		if a.ID < 0 || a.ID >= maxID {
			return fmt.Errorf("added_tokens: %q has id %d, want 0 to %d", a.Content, a.ID, maxID-1)
		}
		size = max(size, a.ID+1)
	}
	t.tokens, t.known = make([]string, size), make([]bool, size)
	for token, id := range t.model.vocab() {
		if !t.known[id] || token < t.tokens[id] { // one id for two tokens: the smaller spelling, whatever the map's order
			t.tokens[id], t.known[id] = token, true
		}
	}
	var raw, normalized []addedToken
	for _, a := range added {
		t.tokens[a.ID], t.known[a.ID] = a.Content, true
		if a.Normalized {
			normalized = append(normalized, a)
		} else {
			raw = append(raw, a)
		}
	}
	t.raw = newAddedSet(raw, func(s string) string { return s })
	var err error
	t.spacedSet = newAddedSet(normalized, func(s string) string {
		n, e := t.normal(s)
		if e != nil {
			err = e
		}
		return n
	})
	return err
}

func (t *huggingFace) normal(s string) (string, error) {
	if t.normalize == nil {
		return s, nil
	}
	return t.normalize(s)
}

// Encode runs the pipeline. Time is linear in the text but for single words without a split, where it is n log n.
func (t *huggingFace) Encode(text string, addSpecial bool) ([]int, error) {
	ids := make([]int32, 0, len(text)/3+8)
	if addSpecial {
		ids = append(ids, t.before...)
	}
	var err error
	for _, s := range t.raw.cut(text) {
		if s.id >= 0 {
			ids = append(ids, s.id)
			continue
		}
		if ids, err = t.encodeSection(ids, text[s.start:s.end], s.start == 0); err != nil {
			return nil, err
		}
	}
	if addSpecial {
		ids = append(ids, t.after...)
	}
	out := make([]int, len(ids))
	for i, id := range ids {
		out[i] = int(id)
	}
	return out, nil
}

func (t *huggingFace) encodeSection(ids []int32, text string, first bool) ([]int32, error) {
	text, err := t.normal(text)
	if err != nil {
		return nil, err
	}
	for _, s := range t.spacedSet.cut(text) {
		if s.id >= 0 {
			ids = append(ids, s.id)
			continue
		}
		pieces := []piece{{text[s.start:s.end], first && s.start == 0}}
		if t.preTokenize != nil {
			if pieces, err = t.preTokenize(pieces); err != nil {
				return nil, err
			}
		}
		for _, p := range pieces {
			if ids, err = t.encodePiece(ids, p.text); err != nil {
				return nil, err
			}
		}
	}
	return ids, nil
}

func (t *huggingFace) encodePiece(ids []int32, text string) ([]int32, error) {
	if text == "" {
		return ids, nil
	}
	if len(text) > maxCachedBytes {
		return t.model.encode(ids, text)
	}
	if cached, ok := t.cache.get(text); ok {
		return append(ids, cached...), nil
	}
	start := len(ids)
	ids, err := t.model.encode(ids, text)
	if err != nil {
		return nil, err
	}
	t.cache.put(text, ids[start:])
	return ids, nil
}

// Decode joins the tokens' texts by the decoder's rules.
func (t *huggingFace) Decode(ids []int) string {
	tokens := make([]string, 0, len(ids))
	for _, id := range ids {
		if id >= 0 && id < len(t.known) && t.known[id] {
			tokens = append(tokens, t.tokens[id])
		}
	}
	return strings.Join(t.decode(tokens), "")
}

func (t *huggingFace) VocabSize() int   { return len(t.tokens) }
func (t *huggingFace) BOS() (int, bool) { return t.special.bos, t.special.bos >= 0 }
func (t *huggingFace) EOS() (int, bool) { return t.special.eos, t.special.eos >= 0 }
func (t *huggingFace) Pad() (int, bool) { return t.special.pad, t.special.pad >= 0 }

func (t *huggingFace) Token(id int) string {
	if id < 0 || id >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

func (t *huggingFace) Files() map[string][]byte { return maps.Clone(t.files) }
func (t *huggingFace) Fingerprint() string      { return t.print }

// Bounds of the cache of encoded pieces: entries and bytes a piece, together at most about 20 MB.
const (
	maxCached      = 1 << 16
	maxCachedBytes = 48
)

// pieceCache remembers the ids of short pieces; when full it starts anew.
type pieceCache struct {
	mu  sync.RWMutex
	ids map[string][]int32
}

func (c *pieceCache) get(text string) ([]int32, bool) {
	c.mu.RLock()
	ids, ok := c.ids[text]
	c.mu.RUnlock()
	return ids, ok
}

func (c *pieceCache) put(text string, ids []int32) {
	text, ids = strings.Clone(text), slices.Clone(ids)
	c.mu.Lock()
	if len(c.ids) >= maxCached {
		clear(c.ids)
	}
	c.ids[text] = ids
	c.mu.Unlock()
}
