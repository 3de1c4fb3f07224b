# Edits a file in the daemon.
set -e
printf 'three\none\ntwo\n' >"$DIR/lines"
emacsclient --socket-name="$1" --eval '(with-current-buffer (find-file-noselect "'"$DIR/lines"'")
  (sort-lines nil (point-min) (point-max)) (save-buffer) (list (emacs-version) (buffer-size)))'
cat "$DIR/lines"
