#!/usr/bin/env bash
# Fetches what the generator draws with and on: free fonts, wallpapers, sample pictures, and walls,
# roads and signs of games, out of Debian's packages and scikit-image's. They serve for training
# only; nothing of them is kept here.
#   assets.sh FOLDER
set -euo pipefail
mkdir -p "$1/packages"
cd "$1/packages"
apt-get download \
  fonts-b612 fonts-cantarell fonts-dejavu-core fonts-freefont-ttf fonts-jura fonts-lato \
  fonts-liberation fonts-open-sans fonts-opendin fonts-osifont fonts-paratype fonts-play \
  fonts-roadgeek fonts-roboto-unhinted \
  gnome-backgrounds lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds opencv-doc \
  plasma-workspace-wallpapers sway-backgrounds torcs-data ufoai-textures ukui-wallpapers
python3 -m pip download --quiet --no-deps scikit-image
for package in *.deb; do dpkg -x "$package" ../files; done
for wheel in *.whl; do python3 -m zipfile -e "$wheel" ../wheel; done
mv ../wheel/skimage/data ../files/skimage
rm -r ../wheel
for pack in ../files/usr/share/games/ufoai/base/*.pk3; do python3 -m zipfile -e "$pack" ../files/ufoai; done
echo "fonts and pictures are in $(cd ../files && pwd)"
