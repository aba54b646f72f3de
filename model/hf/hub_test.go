package hf

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeHub serves one model the way the hub does; broken names a file whose connection breaks half way.
type fakeHub struct {
	files  map[string][]byte
	tokens []string // the Authorization headers seen
	broken string
}

const commit = "0123456789abcdef0123456789abcdef01234567"

func (h *fakeHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.tokens = append(h.tokens, r.Header.Get("Authorization"))
	if strings.HasPrefix(r.URL.Path, "/api/models/org/tiny/revision/main") {
		_, _ = fmt.Fprintf(w, `{"id":"org/tiny","sha":%q,"siblings":[`, commit)
		first := ""
		for name, content := range h.files {
			_, _ = fmt.Fprintf(w, `%s{"rfilename":%q,"size":%d}`, first, name, len(content))
			first = ","
		}
		_, _ = fmt.Fprint(w, "]}")
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/org/tiny/resolve/"+commit+"/")
	content, found := h.files[name]
	if !ok || !found {
		http.Error(w, `{"error":"Repository not found for `+r.Header.Get("Authorization")+`"}`, http.StatusNotFound)
		return
	}
	w.Header().Set("ETag", `"`+strings.ReplaceAll(name, ".", "-")+`"`)
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	if r.Method == http.MethodHead {
		return
	}
	if name == h.broken {
		content = content[:len(content)/2]
	}
	_, _ = w.Write(content)
}

func startHub(t *testing.T) (*fakeHub, LoadOptions) {
	t.Helper()
	h := &fakeHub{files: map[string][]byte{"README.md": []byte("no")}}
	for _, name := range []string{"config.json", weightsFile} {
		h.files[name] = read(t, filepath.Join(golden("qwen2"), name))
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	t.Setenv("HF_ENDPOINT", server.URL)
	t.Setenv("HF_TOKEN", "hf_secret")
	return h, LoadOptions{CacheDir: t.TempDir()}
}

// TestHub downloads a model, then finds it in the cache without asking again.
func TestHub(t *testing.T) {
	h, opts := startHub(t)
	done := map[string]int64{}
	opts.Progress = func(file string, n, total int64) { done[file] = n }
	first := mustLoad(t, "org/tiny", opts)
	equalWeights(t, first, mustLoad(t, golden("qwen2"), LoadOptions{}))
	if done[weightsFile] != int64(len(h.files[weightsFile])) || done["README.md"] != 0 {
		t.Errorf("progress %v", done)
	}
	if len(h.tokens) == 0 || h.tokens[0] != "Bearer hf_secret" {
		t.Errorf("the token was not used: %q", h.tokens)
	}
	asked := len(h.tokens)
	opts.Offline = true
	if second := mustLoad(t, "org/tiny", opts); second.Fingerprint != first.Fingerprint || len(h.tokens) != asked {
		t.Error("--offline asked the hub or loaded something else")
	}
	_ = filepath.WalkDir(opts.CacheDir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() && strings.Contains(string(read(t, path)), "hf_secret") {
			t.Errorf("the token is stored in %s", path)
		}
		return err
	})
}

func TestHubErrors(t *testing.T) {
	h, opts := startHub(t)
	fail := func(name, want string, opts LoadOptions) {
		t.Helper()
		_, err := Load(context.Background(), name, opts)
		oneLineError(t, err, want, name)
		if err != nil && strings.Contains(err.Error(), "hf_secret") {
			t.Errorf("the token is in the error: %v", err)
		}
	}
	offline := opts
	offline.Offline = true
	fail("org/tiny", "is not in the cache", offline)
	fail("org/other", "no such model or revision on the hub", opts)
	fail("models/missing.gguf", "no such file or folder", opts)
	fail("org/../../x", "no such file or folder", opts)
	odd := opts
	odd.Revision = "../../main"
	fail("org/tiny", "is not a branch, tag or commit", odd)
	h.broken = weightsFile
	fail("org/tiny", "broke off", opts)
	h.broken = ""
	mustLoad(t, "org/tiny", opts) // and the next attempt works
	delete(h.files, "config.json")
	h.files["tiny.Q4_0.gguf"] = []byte("GGUF")
	opts.CacheDir = t.TempDir()
	fail("org/tiny", "no config.json but GGUF files (tiny.Q4_0.gguf)", opts)
	t.Setenv("HF_ENDPOINT", "http://127.0.0.1:1")
	opts.CacheDir = t.TempDir()
	fail("org/tiny", "is the network reachable?", opts)
}
