package upstream

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"os"
	"strings"
)

// MaxUpload bounds one file: the largest that Stripe takes for ordinary purposes.
const MaxUpload = 16 << 20

// ErrUploadTooLarge says that a file is larger than MaxUpload.
var ErrUploadTooLarge = fmt.Errorf("the file is larger than %d bytes", MaxUpload)

// Upload is a file on its way to a vendor. It waits in a temporary file that has no name any more, so that
// uploads take no memory and leave nothing behind. Close it. It belongs to one call.
type Upload struct {
	Field string // the name of its part in the form
	Name  string // the file's name, as the vendor is told
	Type  string // its media type
	Size  int64
	Sum   [sha256.Size]byte
	file  *os.File
}

// Spool takes a file in. ErrUploadTooLarge means that it has more than MaxUpload bytes; any other error is of
// the reader or of our disk.
func Spool(field, name, mediaType string, r io.Reader) (*Upload, error) {
	file, err := os.CreateTemp("", "keybrake-upload-*")
	if err != nil {
		return nil, fmt.Errorf("spool an upload: %w", err)
	}
	u := &Upload{Field: field, Name: name, Type: mediaType, file: file}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("spool an upload: %w", err), u.Close())
	}
	sum := sha256.New()
	u.Size, err = io.Copy(io.MultiWriter(file, sum), io.LimitReader(r, MaxUpload+1))
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("spool an upload: %w", err), u.Close())
	case u.Size > MaxUpload:
		return nil, errors.Join(ErrUploadTooLarge, u.Close())
	}
	sum.Sum(u.Sum[:0])
	return u, nil
}

// Close lets go of the file. A nil Upload has nothing to let go of.
func (u *Upload) Close() error {
	if u == nil {
		return nil
	}
	return u.file.Close()
}

// FormField is one text field of an uploaded form.
type FormField struct{ Name, Value string }

// form returns the body of a request that carries the file: its fields, then the file. The boundary follows
// from the file's contents, so that equal uploads are equal requests.
func (u *Upload) form(fields []FormField) (body io.Reader, contentType string, length int64, err error) {
	var head bytes.Buffer
	w := multipart.NewWriter(&head)
	if err := w.SetBoundary(fmt.Sprintf("keybrake-%x", u.Sum[:24])); err != nil {
		return nil, "", 0, err
	}
	for _, f := range fields {
		if err := w.WriteField(f.Name, f.Value); err != nil {
			return nil, "", 0, err
		}
	}
	disposition := multipart.FileContentDisposition(u.Field, u.Name)
	if _, err := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {disposition}, "Content-Type": {u.Type}}); err != nil {
		return nil, "", 0, err
	}
	tail := "\r\n--" + w.Boundary() + "--\r\n"
	length = int64(head.Len()) + u.Size + int64(len(tail))
	return io.MultiReader(&head, io.NewSectionReader(u.file, 0, u.Size), strings.NewReader(tail)), w.FormDataContentType(), length, nil
}
