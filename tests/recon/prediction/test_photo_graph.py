from recon.prediction.photo_graph import component_labels, connected_groups


def test_connected_groups() -> None:
    pairs = [(5, 6), (1, 2), (2, 4), (6, 5), (4, 1)]
    assert connected_groups(8, pairs) == [[1, 2, 4], [5, 6], [0], [3], [7]]
    assert connected_groups(0, []) == []
    assert component_labels(8, pairs).tolist() == [0, 1, 1, 2, 1, 3, 3, 4]
