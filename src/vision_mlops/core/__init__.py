"""The ground floor: paths, files, locks, hashes, errors. It knows no machine learning and no Azure."""
