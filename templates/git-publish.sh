#!/bin/sh
# Publishes the tag TAG of the repository GIT_URL as the application APP_NAME, one step a call:
#
#   git-publish.sh clone|fetch|checkout|rsync|backup|publish
#
# Every step can be run again: what is done already is seen and left as it is.
set -eu
umask 022
export GIT_TERMINAL_PROMPT=0 GIT_SSH_COMMAND="${GIT_SSH_COMMAND:-ssh -o BatchMode=yes}"

fail() {
    printf 'git-publish: %s\n' "$*" >&2
    exit 1
}

say() {
    printf '%s\n' "$*"
}

# Names from the task become paths: nothing but one plain name may stand for the application, and the tag must be
# one that git takes.
check_parameters() {
    case $APP_NAME in
    '' | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) fail "APP_NAME is $APP_NAME; wanted letters, digits and . _ -" ;;
    esac
    case $TAG in -*) fail "TAG is $TAG; wanted no dash in front" ;; esac
    git check-ref-format "refs/tags/$TAG" || fail "TAG is $TAG; wanted the name of a tag"
    case $GIT_URL in '' | -* | ext::* | fd::*) fail "GIT_URL is $GIT_URL; wanted a repository" ;; esac
    case $DEPLOY_DIR in /*) ;; *) fail "DEPLOY_DIR is $DEPLOY_DIR; wanted an absolute path" ;; esac
    case $WORK_DIR in /*) ;; *) fail "WORK_DIR is $WORK_DIR; wanted an absolute path" ;; esac
    case $KEEP in '' | *[!0-9]* | 0?* | ??????*) fail "KEEP is $KEEP; wanted a whole number from 0 to 99999" ;; esac
}

# The commit of the tag, in the clone.
tag_commit() {
    git -C "$repo" rev-parse --verify --quiet "refs/tags/$TAG^{commit}" ||
        fail "the repository has no tag $TAG; try: git push origin $TAG"
}

# The name of the release: the tag as one path element, and the commit, so that a moved tag is another release.
release_name() {
    commit=$(tag_commit)
    printf '%s-%.12s\n' "$(printf '%s' "$TAG" | tr '/' '_')" "$commit"
}

step_clone() {
    mkdir -p -- "$WORK_DIR"
    if [ -d "$repo/.git" ]; then
        git -C "$repo" remote set-url origin "$GIT_URL"
        say "the clone is there: $repo"
        return
    fi
    [ ! -e "$repo" ] || fail "$repo is there and is no clone; move it away"
    # A clone that was cut off has another name and is never taken for a whole one.
    part=$WORK_DIR/.$APP_NAME.part
    rm -rf -- "$part"
    git clone --quiet --no-checkout -- "$GIT_URL" "$part"
    mv -- "$part" "$repo"
    say "cloned $GIT_URL to $repo"
}

step_fetch() {
    git -C "$repo" fetch --quiet --force --prune --tags origin
    # A pruned or moved tag of the repository is pruned or moved here too.
    git -C "$repo" fetch --quiet --force --prune origin '+refs/tags/*:refs/tags/*'
    commit=$(tag_commit)
    say "$TAG is $commit"
}

step_checkout() {
    commit=$(tag_commit)
    git -C "$repo" -c advice.detachedHead=false checkout --quiet --force --detach "$commit"
    git -C "$repo" clean -ffdxq
    if [ -f "$repo/.gitmodules" ]; then
        git -C "$repo" submodule sync --quiet --recursive
        git -C "$repo" submodule --quiet update --init --recursive --force
    fi
    say "checked out $commit"
    git -C "$repo" log -1 --format='%an, %aI: %s'
}

step_rsync() {
    commit=$(tag_commit)
    head=$(git -C "$repo" rev-parse HEAD)
    [ "$head" = "$commit" ] || fail "the clone stands at $head; wanted $commit ($TAG)"
    release=$(release_name)
    if [ -d "$app/releases/$release" ]; then
        say "the release is there: $app/releases/$release"
        return
    fi
    mkdir -p -- "$app/releases"
    part=$app/releases/.$release.part
    rsync --archive --delete --exclude=.git -- "$repo/" "$part/"
    # rsync gives the directory the time of the clone's; pruning goes by when the release was made.
    touch -- "$part"
    mv -- "$part" "$app/releases/$release"
    say "release: $app/releases/$release"
}

step_backup() {
    if [ ! -L "$app/current" ]; then
        say "nothing is published yet; no backup"
        return
    fi
    old=$(basename -- "$(readlink -- "$app/current")")
    mkdir -p -- "$app/backups"
    file=$app/backups/$(date -u +%Y%m%dT%H%M%SZ)-$old.tar.gz
    [ ! -e "$file" ] || fail "$file is there already"
    rm -f -- "$app/backups/"*.part
    tar -czf "$file.part" -C "$app/releases" -- "$old"
    gzip -t <"$file.part"
    mv -- "$file.part" "$file"
    (cd -- "$app/backups" && sha256sum -- "$(basename -- "$file")" >"$file.sha256")
    say "backup: $file"
    # The names begin with the time, so the order of names is the order of time.
    set -- "$app/backups/"*.tar.gz
    while [ "$#" -gt "$KEEP" ]; do
        rm -f -- "$1" "$1.sha256"
        say "removed the backup $1"
        shift
    done
}

step_publish() {
    release=$(release_name)
    [ -d "$app/releases/$release" ] || fail "$app/releases/$release is not there; run the rsync step first"
    if [ -e "$app/current" ] && [ ! -L "$app/current" ]; then
        fail "$app/current is not a link; move it away"
    fi
    old=
    if [ -L "$app/current" ]; then
        old=$(basename -- "$(readlink -- "$app/current")")
    fi
    # The link is made aside and renamed over the old one: at no time is there none.
    ln -sfn -- "releases/$release" "$app/.current.part"
    mv -T -- "$app/.current.part" "$app/current" 2>/dev/null || mv -h -- "$app/.current.part" "$app/current"
    [ "$(readlink -- "$app/current")" = "releases/$release" ] || fail "$app/current does not show the release"
    say "published $release${old:+, was $old}"
    prune_releases "$release" "$old"
}

# Removes old releases, never the one that is published nor the one before it.
prune_releases() {
    # shellcheck disable=SC2012 # release names hold no newline: git allows none in a tag
    ls -1t -- "$app/releases" | tail -n "+$((KEEP + 1))" | while IFS= read -r gone; do
        if [ "$gone" != "$1" ] && [ "$gone" != "$2" ]; then
            rm -rf -- "$app/releases/$gone"
            say "removed the release $gone"
        fi
    done
}

check_parameters
repo=$WORK_DIR/$APP_NAME
app=$DEPLOY_DIR/$APP_NAME
case ${1:-} in
clone) step_clone ;;
fetch) step_fetch ;;
checkout) step_checkout ;;
rsync) step_rsync ;;
backup) step_backup ;;
publish) step_publish ;;
*) fail "the step is ${1:-missing}; wanted clone, fetch, checkout, rsync, backup or publish" ;;
esac
