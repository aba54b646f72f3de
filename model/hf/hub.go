package hf

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gomlx/go-huggingface/hub"
	"github.com/polargo/polar/internal/atomicfile"
	"github.com/polargo/polar/tokenizer"
)

var hubName = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$`)

// looksLikeHubName reports whether a name that is no local path may be "org/model". A path to a missing file that has the
// form of one, such as models/x.gguf, is not taken for it.
func looksLikeHubName(name string) bool {
	ext := strings.ToLower(filepath.Ext(name))
	return hubName.MatchString(name) && ext != ".gguf" && ext != ".safetensors" && ext != ".json" && !strings.Contains(name, "..")
}

// wanted are the small files of a model that are downloaded where present; config.json must be.
var wanted = []string{"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
	"chat_template.jinja", tokenizer.CharFile}

// revisionName bounds what a revision may be: it becomes part of a path in the cache.
var revisionName = regexp.MustCompile(`^[A-Za-z0-9][\w.-]*$`)

// fetch returns the folder in the cache that holds the hub's model, downloading what is missing. Offline, it only looks.
func fetch(ctx context.Context, name string, opts LoadOptions) (string, error) {
	revision := opts.Revision
	if revision == "" {
		revision = "main"
	}
	if !revisionName.MatchString(revision) {
		return "", fmt.Errorf("revision %q is not a branch, tag or commit", revision)
	}
	cache := opts.CacheDir
	if cache == "" {
		cache = hub.DefaultCacheDir()
	}
	if opts.Offline {
		return cached(cache, name, revision)
	}
	token := os.Getenv("HF_TOKEN")
	d := &download{name: name, token: token, root: filepath.Join(cache, "models--"+strings.ReplaceAll(name, "/", "--")), progress: opts.Progress}
	d.repo = hub.New(name).WithAuth(token).WithRevision(revision).WithCacheDir(cache).WithProgressBar(false)
	d.repo.Verbosity = 0
	dir, err := d.run(ctx)
	if err != nil && ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err != nil {
		return "", d.explain(err)
	}
	return dir, nil
}

// cached finds a model that was downloaded before, by this program or by Hugging Face's own tools.
func cached(cache, name, revision string) (string, error) {
	root := filepath.Join(cache, "models--"+strings.ReplaceAll(name, "/", "--"))
	commits := []string{revision}
	if text, err := readSmall(filepath.Join(root, "info", revision)); err == nil {
		var info struct {
			Commit string `json:"sha"`
		}
		if json.Unmarshal(text, &info) == nil && info.Commit != "" {
			commits = append(commits, info.Commit)
		}
	}
	if text, err := readSmall(filepath.Join(root, "refs", revision)); err == nil {
		commits = append(commits, strings.TrimSpace(string(text)))
	}
	for _, commit := range commits {
		dir := filepath.Join(root, "snapshots", filepath.Base(commit))
		if _, err := os.Stat(filepath.Join(dir, "config.json")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no such file or folder, and with --offline the hub is not asked; %s at %s is not in the cache %s", name, revision, cache)
}

// download is the state of one model's download.
type download struct {
	name, token, root string
	repo              *hub.Repo
	progress          func(file string, done, total int64)
}

func (d *download) run(ctx context.Context) (string, error) {
	if err := d.await(ctx, "", 0, func() error { return d.repo.DownloadInfo(true) }); err != nil {
		return "", err
	}
	infos := map[string]*hub.FileInfo{}
	for info, err := range d.repo.IterFileInfos() {
		if err != nil {
			return "", err
		}
		infos[info.Name] = info
	}
	if infos["config.json"] == nil {
		return "", d.notAModel(infos)
	}
	weights, err := d.weights(ctx, infos)
	if err != nil {
		return "", err
	}
	var dir string
	for _, name := range append(slices.Clone(wanted), weights...) {
		if infos[name] == nil {
			continue
		}
		path, err := d.file(ctx, infos[name])
		if err != nil {
			return "", err
		}
		dir = filepath.Dir(path)
	}
	return dir, nil
}

// weights lists the weight files; the index of a sharded model is downloaded to know them.
func (d *download) weights(ctx context.Context, infos map[string]*hub.FileInfo) ([]string, error) {
	if infos[weightsFile] != nil {
		return []string{weightsFile}, nil
	}
	if infos[indexFile] == nil {
		return nil, fmt.Errorf("the hub's model has no %s and no %s", weightsFile, indexFile)
	}
	path, err := d.file(ctx, infos[indexFile])
	if err != nil {
		return nil, err
	}
	text, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	var parsed struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &parsed); err != nil {
		return nil, fmt.Errorf("%s: not valid JSON: %w", indexFile, err)
	}
	names := []string{indexFile}
	for _, shard := range parsed.WeightMap {
		if !slices.Contains(names, shard) {
			names = append(names, shard)
		}
	}
	slices.Sort(names)
	return names, nil
}

// file downloads one file and verifies its size and, where the hub tells it, its sha256.
func (d *download) file(ctx context.Context, info *hub.FileInfo) (path string, err error) {
	before := time.Now()
	err = d.await(ctx, info.Name, info.Size, func() error {
		var inner error
		path, inner = d.repo.DownloadFileCtx(ctx, info.Name)
		return inner
	})
	if err != nil {
		return "", err
	}
	stat, err := os.Stat(path) // the downloader reports success for a connection that broke, and leaves a dangling link
	if err != nil {
		_ = os.Remove(path)
		return "", fmt.Errorf("the download of %s broke off: try again", info.Name)
	}
	if info.Size > 0 && stat.Size() != info.Size {
		d.discard(path)
		return "", fmt.Errorf("%s has %d bytes after the download, the hub says %d: try again", info.Name, stat.Size(), info.Size)
	}
	if info.LFS == nil || info.LFS.SHA256 == "" || stat.ModTime().Before(before.Add(-time.Minute)) {
		return path, nil // no checksum, or verified when it was downloaded
	}
	sum, err := atomicfile.SHA256(path)
	if err == nil && sum != info.LFS.SHA256 {
		d.discard(path)
		return "", fmt.Errorf("%s has sha256 %s after the download, the hub says %s: try again", info.Name, sum, info.LFS.SHA256)
	}
	return path, err
}

// discard removes a damaged file and the blob it links to.
func (d *download) discard(path string) {
	if blob, err := filepath.EvalSymlinks(path); err == nil {
		_ = os.Remove(blob)
	}
	_ = os.Remove(path)
}

// await runs step, reporting the growth of the partial file in the cache, and returns when ctx ends even if step does not.
func (d *download) await(ctx context.Context, name string, total int64, step func() error) error {
	done := make(chan error, 1)
	go func() { done <- step() }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err == nil && d.progress != nil && name != "" {
				d.progress(name, total, total)
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if d.progress != nil && name != "" {
				d.progress(name, d.partial(), total)
			}
		}
	}
}

// partial is the size of the file being written: files are downloaded one after another.
func (d *download) partial() (size int64) {
	parts, _ := filepath.Glob(filepath.Join(d.root, "blobs", "*.part"))
	for _, part := range parts {
		if info, err := os.Stat(part); err == nil {
			size += info.Size()
		}
	}
	return size
}

func (d *download) notAModel(infos map[string]*hub.FileInfo) error {
	var found []string
	for name := range infos {
		if strings.HasSuffix(name, ".gguf") {
			found = append(found, name)
		}
	}
	if slices.Sort(found); len(found) > 0 {
		return fmt.Errorf("the hub's model has no config.json but GGUF files (%s): download one and name it", listed(found))
	}
	return errors.New("the hub's model has no config.json")
}

// explain makes one line of a download's error, without the token.
func (d *download) explain(err error) error {
	line := oneLine(err).Error()
	if d.token != "" {
		line = strings.ReplaceAll(line, d.token, "***")
	}
	hint := "is the network reachable? with --offline only the cache is used"
	switch {
	case strings.Contains(line, "401"), strings.Contains(line, "403"):
		hint = "the model does not exist, or it is gated: set HF_TOKEN to a token that may read it"
	case strings.Contains(line, "404"):
		hint = "no such model or revision on the hub"
	case !strings.Contains(line, "download") && !strings.Contains(line, "request"):
		return errors.New(line)
	}
	return fmt.Errorf("no local file or folder of that name, and the hub failed (%s): %s", hint, line)
}
